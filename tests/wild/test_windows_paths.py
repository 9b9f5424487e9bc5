"""Paths with backslashes (label-studio#7294: ``images\\0.jpg`` was not found).

Siblings looked at: tables, COCO, lists and settings of YOLO; a name that really holds a backslash stays.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from wild_files import draw, opened, png

from vitrail.data.storage.written_paths import portable


def test_in_a_table(tmp_path: Path) -> None:
    draw(tmp_path, "images/a/0.png", "images/a/1.png")
    (tmp_path / "t.csv").write_text("path,label\nimages\\a\\0.png,x\n.\\images\\a\\1.png,y\n")
    source = opened(tmp_path / "t.csv").split("train")
    assert [source.read(i)[:4] for i in range(2)] == [b"\x89PNG"] * 2


def test_in_coco(tmp_path: Path) -> None:
    draw(tmp_path, "images/0.png")
    image = {"id": 1, "file_name": "images\\0.png", "height": 8, "width": 10}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    content = {"images": [image], "annotations": [thing], "categories": [{"id": 1, "name": "ant"}]}
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    assert opened(tmp_path / "instances_train.json", kind="boxes").split("train").read(0)[:4] == b"\x89PNG"


def test_in_lists_and_settings_of_yolo(tmp_path: Path) -> None:
    draw(tmp_path, "data/images/train/0.png")
    (tmp_path / "data" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "data" / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data" / "train.txt").write_bytes(b".\\images\\train\\0.png\r\n")
    for number, train in enumerate(("images\\train", "train.txt", ".\\train.txt")):
        (tmp_path / f"{number}.yaml").write_text(f"path: .\\data\ntrain: {train}\nnames: [ant]\n")
        source = opened(tmp_path / f"{number}.yaml").split("train")
        assert len(source) == 1
        assert source.read(0)[:4] == b"\x89PNG"
        assert len(source.target_kind.read(source.targets, 0)) == 1
    np.testing.assert_array_equal(source.targets.offsets, [0, 1])


def test_a_backslash_in_a_name(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(png())
    assert portable(bytes(tmp_path), b"a\\b.png") == b"a\\b.png"
    assert portable(bytes(tmp_path), b"a\\c.png") == b"a/c.png"
