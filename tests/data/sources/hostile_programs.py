"""Files of programs that annotate, and tables and lists, that were made to hang, to fill the memory or to end in a
traceback: builders by name, in an empty folder, and a part of the one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_sources import picture

Build = Callable[[Path], Path]


def content(name: str, text: str | Any, spec: str = "") -> Build:
    """A file beside ``1.png``, of text or of JSON."""

    def build(folder: Path) -> Path:
        picture(folder / "1.png")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return folder / spec

    return build


def cvat(shape: str, size: str = 'width="32" height="32"') -> Build:
    image = f'<image id="0" name="1.png" {size}>{shape}</image>'
    return content("annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")


def mask(rle: str, width: object = 4, height: object = 4, left: object = 0, **size: str) -> Build:
    place = f'left="{left}" top="0" width="{width}" height="{height}"'
    return cvat(f'<mask label="ant" rle="{rle}" {place}></mask>', **size)


def label_studio(value: Any, **task: Any) -> Build:
    region = {"type": "rectanglelabels", "value": value, "original_width": 32, "original_height": 32}
    base = {"data": {"image": "1.png"}, "annotations": [{"result": [region]}]}
    return content("project.json", [base, base | task] if task else [base])


def via(**region: Any) -> Build:
    whole = {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 4}, "region_attributes": {}}
    one = {"filename": "1.png", "regions": [whole | region]}
    return content("via_project.json", {"_via_settings": {}, "_via_img_metadata": {"a": one}})


def datumaro(*annotations: Any) -> Build:
    item = {"id": "1", "image": {"path": "1.png", "size": [32, 32]}, "annotations": [*annotations]}
    labels = {"label": {"labels": [{"name": "ant"}]}}
    return content("annotations/train.json", {"categories": labels, "items": [item]})


def labelme(size: Any, **shape: Any) -> Build:
    point = {"label": "ant", "points": [[1, 1], [9, 9]], "shape_type": "mask", "mask": "aGVsbG8="}
    sides = {"imageHeight": size, "imageWidth": size}
    return content("1.json", {"imagePath": "1.png", "shapes": [point | shape], **sides})


def listed(line: str) -> Build:
    def build(folder: Path) -> Path:
        picture(folder / "JPEGImages" / "1.png")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        xml = f"<annotation><object><name>ant</name>{box}</object></annotation>"
        for name, written in (("Annotations/1.xml", xml), ("ImageSets/Main/train.txt", line)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(written)
        return folder

    return build


BOX = {"x": 1, "y": 1, "width": 4, "height": 4, "rectanglelabels": ["ant"]}
FAR = 10**400
HUGE = {"size": 'width="1000000000" height="1000000000"'}

REFUSED: dict[str, tuple[Build, str]] = {
    "a mask of 10¹² pixels in a small image": (mask("0,1000000000000", 10**6, 10**6), "cannot be read"),
    "a mask in an image of 10¹⁸ pixels": (mask("0,16", **HUGE), "cannot be read"),
    "a mask of 10⁹ pixels a side in such an image": (mask("0,1000000000000000000", 10**9, 10**9, **HUGE), "cannot be"),
    "a mask at infinity": (mask("0,16", left="inf"), "cannot be read"),
    "a mask at no number": (mask("0,16", left="nan"), "cannot be read"),
    "a mask of negative runs": (mask("-16,32"), "cannot be read"),
    "a mask without runs": (mask(""), "cannot be read"),
    "a box at infinity": (cvat('<box label="ant" xtl="inf" ytl="1" xbr="3" ybr="4"></box>'), "no x, y, width, height"),
    "a turn without end": (
        cvat('<box label="ant" xtl="1" ytl="1" xbr="3" ybr="4" rotation="inf"></box>'),
        "box of 'ant' that cannot be read",
    ),
    "a region beyond every float": (label_studio(BOX | {"x": FAR}), "no rectangle"),
    "data that are a list": (label_studio(BOX, data=["1.png"]), "names no file"),
    "an image that is a number": (label_studio(BOX, data={"image": 5}), "names no file"),
    "an outline beyond every float": (label_studio({"points": [[FAR, 1]] * 3, "polygonlabels": ["a"]}), "no polygon"),
    "a box that is text": (via(shape_attributes={"name": "rect", "x": "1"}), "no x, y, width, height"),
    "an outline that is a number": (
        via(shape_attributes={"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": 5}),
        "no list of three or more",
    ),
    "annotations that are numbers": (datumaro(5, None, "a", [1]), "no mapping"),
    "an outline that is a mapping": (datumaro({"type": "polygon", "label_id": 0, "points": {"a": 1}}), "no list of"),
    "run lengths of 10¹⁸ pixels": (
        datumaro({"type": "mask", "label_id": 0, "rle": {"size": [10**9, 10**9], "counts": [10**18]}}),
        "PIXELS",
    ),
    "run lengths of infinite size": (
        datumaro({"type": "mask", "label_id": 0, "rle": {"size": [float("inf"), 1], "counts": [1]}}),
        "lacks a height or a width",
    ),
    "a mask that is no image": (labelme(32), "mask of 'ant' that cannot be read"),
    "a mask in an image of 10⁹ pixels a side": (labelme(10**9), "mask of 'ant' that cannot be read"),
    "a list of blanks": (listed("1" + " " * 200_000 + "x\n"), "file name too long"),
    "a cell of blanks": (
        content("t.csv", f'path,label,bbox\n1.png,ant,"1{" " * 100_000}x"\n', spec="t.csv"),
        "label",
    ),
}
TAKEN: dict[str, Build] = {
    "results that are a number": label_studio(BOX, annotations=[{"result": 5}, {"result": [5]}]),
    "attributes that are a list": via(region_attributes=[1, {}]),
}
