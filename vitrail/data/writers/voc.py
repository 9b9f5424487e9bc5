"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/``, and masks in ``SegmentationObject/``.

Corners are written as the pixels' sides, from 0 on, which is how they are read again. Crowds become ``difficult``,
as neither need be found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from vitrail.data.objects import Objects
from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.data.storage.decimals import decimals
from vitrail.data.storage.objects import annotations_of
from vitrail.errors import UserError
from vitrail.ops.segmentation_losses import IGNORE

KINDS = ("masks", "boxes")
SIDES = ("xmin", "ymin", "xmax", "ymax")


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; the returned lines say what the format cannot hold.

    Raises:
        UserError: an image of more objects than a map of their masks has numbers.
    """
    taken: set[str] = set()
    overlaps = crowds = bare = 0
    for split, source in splits.items():
        stems = []
        for index, name in copies.copy(source, folder / "JPEGImages", taken):
            objects = annotations_of(source)[index]
            stems.append(Path(name).stem)
            copies.write_text(folder / "Annotations" / f"{stems[-1]}.xml", _xml(name, objects, source.classes))
            crowds += int(objects.crowd.sum())
            if objects.masks is not None:
                bare += 0 if objects.outlined is None else int((~objects.outlined).sum())
                overlaps += _write_maps(folder, stems[-1], objects, source.name(index))
        listed = "".join(f"{stem}\n" for stem in stems)
        for lists in ("Main", *(["Segmentation"] if annotations_of(source).masks is not None else [])):
            copies.write_text(folder / "ImageSets" / lists / f"{split}.txt", listed)
        copies.write_text(folder / "classes.json", json.dumps(list(source.classes)))
    lost = [f"{crowds:,} crowds became difficult objects, which one detection stands for"] if crowds else []
    lost += [f"{overlaps:,} masks lie under others, where Pascal VOC holds the upper one alone"] if overlaps else []
    lost += [f"{bare:,} objects have a box and no outline, where Pascal VOC holds an empty mask"] if bare else []
    return lost


def _xml(name: str, objects: Objects, classes: tuple[str, ...]) -> str:
    height, width = objects.size
    lines = [f"<filename>{escape(name)}</filename>"]
    lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for box, label, difficult in zip(objects.boxes_xyxy.numpy(), objects.labels, objects.ignored, strict=True):
        corners = "".join(f"<{side}>{value!r}</{side}>" for side, value in zip(SIDES, decimals(box), strict=True))
        lines.append(
            f"<object><name>{escape(classes[int(label)])}</name><difficult>{int(difficult)}</difficult>"
            f"<bndbox>{corners}</bndbox></object>"
        )
    return "<annotation>\n" + "".join(f"  {line}\n" for line in lines) + "</annotation>\n"


def _write_maps(folder: Path, stem: str, objects: Objects, name: str) -> int:
    """Write which object each pixel is of, and which class; the number of objects that others cover in part."""
    assert objects.masks is not None
    if len(objects) >= IGNORE:
        raise UserError(f"{name} has {len(objects)} objects and a map holds {IGNORE - 1}; write coco")
    numbers = np.zeros(objects.size, np.uint8)
    bare = [] if objects.outlined is None else (~objects.outlined).nonzero().flatten().tolist()
    for place, mask in enumerate(objects.masks.numpy()):
        if place not in bare:
            numbers[mask] = place + 1
    classes = np.concatenate(([0], objects.labels.numpy() + 1)).astype(np.uint8)[numbers]
    for kind, pixels in (("SegmentationObject", numbers), ("SegmentationClass", classes)):
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{stem}.png")
    whole = objects.masks.flatten(1).sum(1).numpy()
    whole[bare] = 0
    return int((np.bincount(numbers.ravel(), minlength=len(objects) + 1)[1:] < whole).sum())
