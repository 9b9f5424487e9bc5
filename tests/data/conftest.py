from __future__ import annotations

from pathlib import Path

import pytest


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
