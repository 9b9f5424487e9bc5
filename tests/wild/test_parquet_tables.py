"""Folders of ``.parquet`` files, as the Hugging Face hub holds data sets: ``data/train-00000-of-00001.parquet``.

Siblings: one file, files beside each other, folders of configurations, bytes without the library's own types as pandas
writes them, boxes in both ways of nesting, as sizes and as corners, images for labels, damaged files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import SIZE, boxes_of, opened, picture, told
from wild_files import png

from vitrail.data.inspection.check import check
from vitrail.errors import UserError

datasets = pytest.importorskip("datasets", reason="needs the extra: pip install 'vitrail[datasets]'")
CELLS = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")


def pictures(count: int) -> list[dict[str, Any]]:
    return [{"bytes": png(number, SIZE), "path": None} for number in range(count)]


def table(file: Path, columns: dict[str, Any], features: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    rows = {"image": pictures(count), **columns}
    features = {"image": datasets.Image(), **features}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(str(file))
    return file


NAMED = {"label": datasets.ClassLabel(names=["zebra", "ant"])}


@pytest.mark.parametrize("place", ["data/{}", "{}", "default/{}", "default/{1}/0000.parquet"])
def test_splits_and_names(place: str, tmp_path: Path) -> None:
    for split, labels in (("train", [0, 1, 1]), ("validation", [1, 0])):
        name = f"{split}-00000-of-00001.parquet"
        table(tmp_path / "d" / place.format(name, split), {"label": labels}, NAMED)
    splits = opened(tmp_path / "d")
    assert {split: len(source) for split, source in splits.items()} == {"train": 3, "val": 2}
    assert splits.classes == ("zebra", "ant")
    assert splits.val.targets.tolist() == [1, 0]
    assert check(splits, workers=0).ok


def test_one_file_of_bytes_as_pandas_writes_them(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    cells = pictures(2)
    frame = pandas.DataFrame({"image": [each["bytes"] for each in cells], "label": ["cat", "dog"]})
    frame.to_parquet(tmp_path / "a.parquet")
    splits = opened(tmp_path / "a.parquet")
    assert splits.classes == ("cat", "dog")
    assert splits.train.read(1) == cells[1]["bytes"]


OBJECT = {"bbox": datasets.List(datasets.Value("float32"), 4), "category": datasets.ClassLabel(names=["cat", "dog"])}


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_boxes(nested: bool, corners: bool, tmp_path: Path) -> None:
    boxes = [[12, 3, 21, 11], [1, 2, 9, 8]] if corners else [[12, 3, 9, 8], [1, 2, 8, 6]]
    lists = [{"bbox": boxes, "category": [1, 0]}, {"bbox": [], "category": []}]
    several = [[{"bbox": b, "category": c} for b, c in zip(*each.values(), strict=True)] for each in lists]
    column = datasets.List(OBJECT) if nested else {name: datasets.List(each) for name, each in OBJECT.items()}
    features = {"objects": column}
    table(tmp_path / "d" / "train.parquet", {"objects": several if nested else lists}, features)
    splits, said = told(tmp_path / "d")
    assert boxes_of(splits) == [("dog", [12, 3, 21, 11]), ("cat", [1, 2, 9, 8])]
    assert boxes_of(splits, index=1) == []
    assert ("the boxes are corners" in said) == corners
    assert check(splits, workers=0).ok


def test_a_table_beside_pictures_is_not_the_data(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / "d" / name / f"{name}.png")
    table(tmp_path / "d" / "train.parquet", {"label": [0, 1]}, NAMED)
    assert opened(tmp_path / "d").classes == ("cat", "dog")


def refused(tmp_path: Path, columns: dict[str, Any], features: dict[str, Any]) -> str:
    table(tmp_path / "d" / "train.parquet", columns, features)
    with pytest.raises(UserError) as raised:
        opened(tmp_path / "d")
    return str(raised.value)


def test_what_is_no_table_of_pictures_with_labels_says_so(tmp_path: Path) -> None:
    lists = {name: datasets.List(each) for name, each in OBJECT.items()}
    both = [{"bbox": [[1, 1, 10, 10]], "category": [0]}]
    assert "fit their images as x, y, width, height and as two corners" in refused(
        tmp_path / "a", {"objects": both}, {"objects": lists}
    )
    short = [{"bbox": [[12, 3, 9, 8]], "category": []}]
    assert "has 1 boxes and 0 classes" in refused(tmp_path / "b", {"objects": short}, {"objects": lists})
    masks = pictures(1)
    assert "column 'label' holds images" in refused(tmp_path / "c", {"label": masks}, {"label": datasets.Image()})
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "train.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(UserError, match=r"cannot be opened: .*; save it again"):
        opened(tmp_path / "e")
    for part in ("one", "two"):
        table(tmp_path / "f" / part / "train.parquet", {"label": [0, 1]}, NAMED)
    with pytest.raises(UserError, match="both hold tables of train; give one of the folders"):
        opened(tmp_path / "f")
