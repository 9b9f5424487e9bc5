"""CVAT's own files, "CVAT for images 1.1": ``annotations.xml`` and the images in ``images/``.

Boxes, polygons, ellipses and masks are objects; points, lines and skeletons are left out. Subsets that are named for a
split are the splits. Class names are those of the project, in order.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import open_regular
from vitrail.data.media.xml_text import read_xml
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.coco_files import whole
from vitrail.data.storage.scenes import SceneImage, scene_sources
from vitrail.errors import UserError

FILE = "annotations.xml"


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    file = path if path.is_file() and path.suffix.lower() == ".xml" else path / FILE
    try:
        with open_regular(file) as stream:
            return b"<annotations" in stream.read(2000)
    except BadImage:
        return False


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a file that cannot be read, and with all flaws for shapes that cannot."""
    file = config.path / FILE if config.path.is_dir() else config.path
    try:
        tree = read_xml(file)
    except BadImage as error:
        raise UserError(f"{file} {error}; export it again") from None
    scenes: dict[str, list[SceneImage]] = {}
    for place, element in enumerate(tree.iter("image")):
        split = split_called(element.get("subset", "")) or "train"
        scenes.setdefault(split, []).append(_image(file, place, element))
    names = [name for label in tree.iter("label") if (name := label.findtext("name"))]
    folders = {split: [file.parent / "images", file.parent / "images" / split, file.parent] for split in scenes}
    seen = {each.name for images in scenes.values() for image in images for each in image.objects}
    classes = tuple(dict.fromkeys(names)) if seen <= set(names) else ()
    return scene_sources(scenes, folders, config, classes=classes, what="CVAT")


def _image(file: Path, place: int, element: ElementTree.Element) -> SceneImage:
    height, width = (whole(element.get(side)) for side in ("height", "width"))
    image = SceneImage(file, place, element.get("name", ""), (height, width) if height and width else None)
    for shape in element:
        name = shape.get("label", "")
        try:
            if shape.tag == "box":
                left, top, right, bottom = (float(shape.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr"))
                turned = float(shape.get("rotation") or 0)
                if not math.isfinite(turned):
                    raise ValueError("no angle")
                if turned:
                    image.outline(name, [_turned((left, top, right, bottom), turned)])
                else:
                    image.box(name, left, top, right - left, bottom - top)
            elif shape.tag == "polygon":
                image.outline(
                    name, [[float(v) for point in shape.get("points", "").split(";") for v in point.split(",")]]
                )
            elif shape.tag == "ellipse":
                image.ellipse(name, *(float(shape.get(key, "")) for key in ("cx", "cy", "rx", "ry")))
            elif shape.tag == "mask":
                _add_mask(image, name, shape)
            else:
                image.left_out.append(shape.tag)
        except (ValueError, OverflowError):
            image.faults.append(f"image {place} has a {shape.tag} of {name!r} that cannot be read")
    return image


def _turned(box: tuple[float, float, float, float], degrees: float) -> list[float]:
    """The corners of a box that is turned around its middle."""
    left, top, right, bottom = box
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    middle = corners.mean(axis=0)
    return [float(v) for v in ((corners - middle) @ turn.T + middle).ravel()]


def _add_mask(image: SceneImage, name: str, shape: ElementTree.Element) -> None:
    """Run lengths of rows, in the box of the mask; off comes first."""
    left, top, width, height = (int(float(shape.get(key, ""))) for key in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.get("rle", "").split(",")]
    most = image.known_size()
    if sum(runs) != width * height or min(runs) < 0 or not (0 < height <= most[0] and 0 < width <= most[1]):
        raise ValueError("runs of another size")
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    image.placed_mask(name, part, left, top)
