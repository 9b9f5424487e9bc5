from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, so that no test meets what another one left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def scene_folder(tmp_path: Path, own_cache: Path) -> Path:
    """Twelve small pictures of one to three things, annotated as Pascal VOC does, with masks and class maps."""
    import numpy as np
    from PIL import Image

    root, draw = tmp_path / "scenes", np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        height, width = draw.integers(24, 40, 2).tolist()
        pixels = draw.integers(0, 90, (height, width, 3), np.uint8)
        things, classes = np.zeros((2, height, width), np.uint8)
        objects = []
        for thing in range(int(draw.integers(1, 4))):
            left, top = thing * width // 3 + 1, int(draw.integers(0, height // 2))
            right, bottom = left + width // 3 - 2, top + int(draw.integers(6, height // 2))
            label = int(draw.integers(0, 3)) if number else thing
            part = (slice(top, bottom), slice(left, right))
            pixels[part], things[part], classes[part] = 120 + 60 * label, thing + 1, label + 1
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (left, top, right, bottom), strict=True)
            box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
            name = ("ant", "bee", "cat")[label]
            objects.append(f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>")
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (root / f"Annotations/{number:02}.xml").write_text(text)
        Image.fromarray(pixels).save(root / f"JPEGImages/{number:02}.png")
        Image.fromarray(things).save(root / f"SegmentationObject/{number:02}.png")
        Image.fromarray(classes).save(root / f"SegmentationClass/{number:02}.png")
    return root


@pytest.fixture
def coco_file(tmp_path: Path, own_cache: Path):
    """``coco_file(change=None)``: COCO instances of three pictures, after ``change(content)``."""
    import json

    import numpy as np
    from PIL import Image

    def build(change=None) -> Path:
        root, draw = tmp_path / "coco", np.random.default_rng(1)
        (root / "images").mkdir(parents=True)
        sizes = {11: ("a.png", 30, 40), 5: ("b.png", 24, 20), 8: ("c.png", 16, 16)}
        for name, height, width in sizes.values():
            Image.fromarray(draw.integers(0, 255, (height, width, 3), np.uint8)).save(root / "images" / name)
        content = {
            "images": [{"id": i, "file_name": n, "height": h, "width": w} for i, (n, h, w) in sizes.items()],
            "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
            "annotations": [
                _annotation(1, 11, 90, [2.5, 3, 10, 12.25], [[2.5, 3, 12.5, 3, 12.5, 15.25]]),
                _annotation(2, 11, 7, [20, 4, 9, 9], [[20, 4, 29, 4, 29, 13, 20, 13], [22, 5, 24, 5, 24, 20]]),
                _annotation(3, 5, 7, [1, 1, 8, 8], {"size": [24, 20], "counts": [25, 8, 16, 8, 423]}, crowd=1),
                _annotation(4, 5, 90, [3, 4, 5, 6], [[3, 4, 8, 4, 8, 10, 3, 10]]),
            ],
        }
        if change is not None:
            change(content)
        file = root / "instances_train.json"
        file.write_text(json.dumps(content))
        return file

    return build


def _annotation(number: int, image: int, category: int, box: list[float], shape: object, crowd: int = 0) -> dict:
    entry = {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
    return entry | {"segmentation": shape, "area": box[2] * box[3]}
