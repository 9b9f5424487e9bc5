"""`vitrail data convert` writes COCO, Pascal VOC, YOLO, masks and tables from every layout that is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import boxes_of, coco, halves, levels, opened, picture
from test_layouts_of_programs import labelme
from test_mask_files import colours
from test_voc_layouts import voc

from vitrail.cli import main


def outlined(root: Path) -> Path:
    return coco(root, outlines=True)


def programs(root: Path) -> Path:
    return labelme(root)


def annotations(root: Path) -> Path:
    return voc(root, "a", "b")


def maps(root: Path) -> Path:
    picture(root / "images" / "a.jpg")
    levels(root / "masks" / "a.png", halves(0, 255))
    return root


WITH_OUTLINES = {"coco": outlined, "labelme": programs, "masks": maps}


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "csv"])
@pytest.mark.parametrize("source", [outlined, programs, annotations, maps])
def test_objects(source, to: str, tmp_path: Path) -> None:
    spec, out = source(tmp_path / "data"), tmp_path / "out"
    assert main(["data", "convert", str(spec), str(out), "--to", to]) == 0
    again = opened(out, kind="boxes")
    before = [("foreground", [15, 0, 30, 20])] if source is maps else boxes_of(opened(spec, kind="boxes"))
    after = boxes_of(again)
    if (source, to) == (programs, "yolo"):  # outlines of several parts come back as those of their pixels
        before, after = ([(name, []) for name, _ in each] for each in (before, after))
    assert sorted(after) == sorted(before)
    assert main(["data", "check", str(out), "--set", "val_fraction=0"]) == 0


@pytest.mark.parametrize("source", ["coco", "labelme", "masks"])
def test_class_maps(source: str, tmp_path: Path) -> None:
    spec, out = WITH_OUTLINES[source](tmp_path / "data"), tmp_path / "out"
    assert main(["data", "convert", str(spec), str(out), "--to", "masks"]) == 0
    found = opened(out)
    assert found.kind == "semantic"
    assert found.classes[0] == "background"
    pixels = found.train.targets[0]
    assert set(np.unique(pixels)) == ({0, 1, 2} if source == "labelme" else {0, 1})


def test_classes_as_a_table(class_folder, tmp_path: Path) -> None:
    assert main(["data", "convert", str(class_folder(3)), str(tmp_path / "out"), "--to", "csv"]) == 0
    found = opened(tmp_path / "out" / "labels.csv")
    assert found.classes == ("ant", "bee", "cat", "dog")
    assert found.train.counts().tolist() == [3, 3, 3, 3]


def test_what_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = annotations(tmp_path / "data")
    assert main(["data", "convert", str(spec), str(tmp_path / "out"), "--to", "masks"]) == 2
    assert "masks holds semantic, and the data has boxes" in capsys.readouterr().err
    assert colours
