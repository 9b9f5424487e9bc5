from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.data.media.decode import decode
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError

datasets = pytest.importorskip("datasets", reason="needs the extra: pip install 'vitrail[datasets]'")


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 10, 20)).save(stream, "PNG")
    return stream.getvalue()


def saved(folder: Path, label: Any, values: list[Any], splits: tuple[str, ...] = ("train", "validation")) -> Path:
    features = datasets.Features({"picture": datasets.Image(), "label": label})
    rows = {"picture": [{"bytes": png(i), "path": None} for i in range(len(values))], "label": values}
    data = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(dict.fromkeys(splits, data)).save_to_disk(str(folder))
    return folder


def test_a_saved_data_set(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["zebra", "ant"])
    splits = open_source(SourceConfig(spec=str(saved(tmp_path / "d", label, [0, 1, 1]))))
    assert [name for name, _ in splits.items()] == ["train", "val"]
    assert (splits.classes, splits.val.targets.tolist()) == (("zebra", "ant"), [0, 1, 1])
    assert decode(splits.train.read(2)).getpixel((0, 0)) == (2, 10, 20)
    assert splits.train.name(2).endswith("d/train[2]")


def test_other_labels(tmp_path: Path) -> None:
    numbers = saved(tmp_path / "n", datasets.Value("float32"), [0.5, 1.5])
    assert open_source(SourceConfig(spec=f"huggingface:{numbers}")).kind == "number"
    several = saved(tmp_path / "m", datasets.Sequence(datasets.Value("string")), [["a", "b"], ["b"]])
    np.testing.assert_array_equal(open_source(SourceConfig(spec=str(several))).train.targets, [[1, 1], [0, 1]])
    assert open_source(SourceConfig(spec=str(several), labelled=False)).kind == "none"


def test_a_hidden_test_set_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = datasets.ClassLabel(names=["a", "b"])
    folder = saved(tmp_path / "d", label, [0, 1], ("train",))
    hidden = saved(tmp_path / "h", label, [-1, -1], ("test",))
    both = datasets.DatasetDict(
        {
            "train": datasets.load_from_disk(str(folder))["train"],
            "test": datasets.load_from_disk(str(hidden))["test"],
        }
    )
    both.save_to_disk(str(tmp_path / "b"))
    splits = open_source(SourceConfig(spec=str(tmp_path / "b"), val_fraction=0))
    assert splits.test is None
    assert "labels are withheld" in capsys.readouterr().err


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", datasets.Value("int64"), [0, 1])
    with pytest.raises(UserError, match="has the columns label; name the label with label_columns="):
        open_source(SourceConfig(spec=str(folder), label_columns=("species",)))
    with pytest.raises(UserError, match="no image column 'photo'"):
        open_source(SourceConfig(spec=str(folder), path_column="photo"))


def test_nothing_is_fetched_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def load_dataset(name: str, part: str | None, *, cache_dir: str | None, download_config: Any) -> None:
        asked.append((name, part, download_config.local_files_only))
        raise FileNotFoundError("not cached")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"not cached; fetch it with download=true"):
        open_source(SourceConfig(spec="huggingface:someone/birds:small"))
    assert asked == [("someone/birds", "small", True)]


def test_columns_of_groups_and_times(tmp_path: Path) -> None:
    import datetime

    rows = {
        "picture": [{"bytes": png(i), "path": None} for i in range(12)],
        "label": [i % 2 for i in range(12)],
        "patient": [i // 3 for i in range(12)],
        "day": [datetime.datetime(2024, 1, 1 + i) for i in range(12)],
    }
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "patient": datasets.Value("int64"),
            "day": datasets.Value("timestamp[s]"),
        }
    )
    data = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "d"))
    config = {"spec": str(tmp_path / "d"), "val_fraction": 0.25}
    grouped = open_source(SourceConfig(**config, group_column="patient"))
    assert len(grouped.val) == 3
    assert not set(grouped.train.groups.tolist()) & set(grouped.val.groups.tolist())
    latest = open_source(SourceConfig(**config, time_column="day"))
    assert [latest.val.name(i).rpartition("/")[2] for i in range(3)] == ["train[9]", "train[10]", "train[11]"]
    assert latest.train.times.max() < latest.val.times.min()
    with pytest.raises(UserError, match="has no column 'patent'; did you mean 'patient'"):
        open_source(SourceConfig(**config, group_column="patent"))
