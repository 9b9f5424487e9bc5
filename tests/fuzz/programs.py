"""Small sound data sets in the files of programs that annotate."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping


def data_sets(png: bytes, mask: bytes) -> list[Mapping[str, bytes]]:
    """Each as files by name.

    Args:
        png: an image of 24 × 24 pixels.
        mask: one of 8 × 8 pixels, black and white.
    """
    return [
        _label_studio(png),
        _cvat(png),
        _datumaro(png),
        _via(png),
        _labelme(png, mask),
        _boxes(png),
        _excluding(png),
    ]


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


def _label_studio(png: bytes) -> Mapping[str, bytes]:
    sizes = {"original_width": 24, "original_height": 24}
    values = [
        {"x": 10, "y": 10, "width": 30, "height": 30, "rotation": 0, "rectanglelabels": ["ant"]},
        {"x": 40, "y": 40, "width": 30, "height": 30, "rotation": 20, "rectanglelabels": ["bee"]},
        {"points": [[1, 1], [40, 1], [40, 50]], "polygonlabels": ["ant"]},
        {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["bee"]},
    ]
    kinds = ["rectanglelabels", "rectanglelabels", "polygonlabels", "ellipselabels"]
    result = [{"type": kind, "value": value, **sizes} for kind, value in zip(kinds, values, strict=True)]
    full = {
        "id": 1,
        "data": {"image": "/data/upload/1.png"},
        "annotations": [{"was_cancelled": False, "result": result}],
    }
    brief = {"image": "1.png", "id": 2, "label": [value | sizes for value in values[:2]]}
    return {"label_studio/project.json": _text([full, brief]), "label_studio/1.png": png}


def _cvat(png: bytes) -> Mapping[str, bytes]:
    text = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><labels><label><name>ant</name></label><label><name>bee</name></label>
</labels></job></meta>
<image id="0" name="1.png" width="24" height="24" subset="Train">
<box label="ant" source="manual" occluded="0" xtl="1.5" ytl="2.0" xbr="9.0" ybr="10.0" z_order="0"></box>
<box label="bee" xtl="10" ytl="10" xbr="20" ybr="18" rotation="30"></box>
<polygon label="ant" points="1.0,1.0;9.0,1.0;9.0,9.0"></polygon>
<ellipse label="bee" cx="12" cy="12" rx="4" ry="3"></ellipse>
<mask label="ant" rle="2, 3, 5, 6" left="2" top="3" width="4" height="4"></mask>
<points label="bee" points="3.0,4.0"></points>
</image></annotations>"""
    return {"cvat/annotations.xml": text.encode(), "cvat/images/1.png": png}


def _datumaro(png: bytes) -> Mapping[str, bytes]:
    annotations = [
        {"id": 0, "type": "bbox", "label_id": 0, "group": 0, "bbox": [1, 1, 8, 8]},
        {"id": 1, "type": "polygon", "label_id": 1, "group": 1, "points": [1, 1, 9, 1, 9, 9]},
        {"id": 2, "type": "polygon", "label_id": 1, "group": 1, "points": [11, 11, 19, 11, 19, 19]},
        {"id": 3, "type": "mask", "label_id": 0, "rle": {"size": [24, 24], "counts": [100, 50, 426]}},
    ]
    item = {"id": "1", "annotations": annotations, "image": {"path": "1.png", "size": [24, 24]}}
    content = {"info": {}, "categories": {"label": {"labels": [{"name": "ant"}, {"name": "bee"}]}}, "items": [item]}
    return {"datumaro/annotations/train.json": _text(content), "datumaro/images/train/1.png": png}


def _via(png: bytes) -> Mapping[str, bytes]:
    shapes = [
        {"name": "rect", "x": 1, "y": 1, "width": 8, "height": 8},
        {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
        {"name": "circle", "cx": 12, "cy": 12, "r": 4},
        {"name": "ellipse", "cx": 12, "cy": 12, "rx": 4, "ry": 3},
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "ant"}} for shape in shapes]
    regions[0]["region_attributes"] = {"class": {"bee": True}}
    one = {"filename": "1.png", "size": 100, "regions": regions, "file_attributes": {}}
    old = {"filename": "2.png", "size": 100, "regions": {str(n): each for n, each in enumerate(regions)}}
    content = {"_via_settings": {}, "_via_img_metadata": {"1.png100": one, "2.png100": old}}
    return {"via/via_project.json": _text(content), "via/1.png": png, "via/2.png": png}


def _labelme(png: bytes, mask: bytes) -> Mapping[str, bytes]:
    shapes = [
        {"label": "ant", "points": [[1, 1], [9, 9]], "group_id": None, "shape_type": "rectangle"},
        {"label": "bee", "points": [[1, 1], [9, 1], [9, 9]], "group_id": 1, "shape_type": "polygon"},
        {"label": "bee", "points": [[12, 12], [16, 12]], "group_id": None, "shape_type": "circle"},
        {"label": "ant", "points": [[2, 2], [10, 10]], "shape_type": "mask", "mask": base64.b64encode(mask).decode()},
    ]
    content = {"version": "5", "imagePath": "1.png", "imageHeight": 24, "imageWidth": 24, "shapes": shapes}
    return {"labelme/1.json": _text(content), "labelme/1.png": png}


def _boxes(png: bytes) -> Mapping[str, bytes]:
    rows = 'filename,class,bbox\n1.png,ant,"[1, 1, 8, 8]"\n1.png,bee,"2 2 9 9"\n2.png,bee,"[3,3,4,4]"\n'
    return {"boxes/t.csv": rows.encode(), "boxes/1.png": png, "boxes/2.png": png}


def _excluding(png: bytes) -> Mapping[str, bytes]:
    pictures = {f"excluding/{name}/{number}.png": png for name in ("ant", "bee") for number in (1, 2)}
    return {"excluding/exclude.txt": b"ant/1.png\n", **pictures}
