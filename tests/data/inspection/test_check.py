from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.inspection.check import check, label_text
from vitrail.data.inspection.inspect import inspect
from vitrail.data.inspection.stats import lines, moments, stats
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.data.storage.arrays import Arrays
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


def pictures(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, channels), np.uint8)


def arrays(images: np.ndarray, label: str = "x", num_classes: int = 2) -> Arrays:
    classes = tuple(f"c{i}" for i in range(num_classes))
    targets = np.arange(len(images)) % num_classes
    return Arrays(images=images, label=label, targets=targets, kind="class", classes=classes, channels=images.shape[3])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, seed in (("train", 0), ("val", 1)):
        for name in ("a", "b"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i, pixels in enumerate(pictures(3, seed * 10 + ord(name))):
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_healthy_data_set(photos: Path) -> None:
    report = check(str(photos), workers=0)
    assert report.ok
    assert report.num_images == {"train": 6, "val": 6}
    assert list(report.lines()) == ["6 train, 6 val: 0 bad, 0 with warnings, 0 duplicates"]


def test_every_finding_is_listed(photos: Path) -> None:
    (photos / "train" / "a" / "bad.jpg").write_bytes(b"")
    (photos / "val" / "b" / "worse.jpg").write_bytes(b"<html>")
    same = (photos / "train" / "a" / "0.png").read_bytes()
    for copy in ("train/b/copy.png", "val/a/copy.png", "train/a/copy.png"):
        (photos / copy).write_bytes(same)
    (photos / "train" / "C").mkdir()
    (photos / "train" / "c").mkdir()
    Image.new("L", (3, 3)).save(photos / "train" / "c" / "1.png")
    report = check(SourceConfig(spec=str(photos), allow_empty_class=True), workers=0)
    assert [(f.split, Path(f.name).name, f.text.split(",")[0]) for f in report.bad] == [
        ("train", "bad.jpg", "is empty (0 bytes)"),
        ("val", "worse.jpg", "is an HTML page"),
    ]
    assert [sorted((Path(f.name).parent.name, f.split, f.text) for f in twins) for twins in report.conflicts] == [
        [("a", "train", "a"), ("a", "train", "a"), ("a", "val", "a"), ("b", "train", "b")]
    ]
    assert len(report.leaks) == 1
    assert report.num_duplicates == 3
    assert report.empty_classes == {"train": ["C"], "val": ["C", "c"]}
    assert report.case_twins == [("C", "c")]
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    assert sum(line.startswith("bad: ") for line in report.lines()) == 2


def test_two_bad_files_of_equal_bytes_are_no_duplicates(photos: Path) -> None:
    for name in ("a", "b"):
        (photos / "train" / name / "empty.png").write_bytes(b"")
    report = check(str(photos), workers=0)
    assert (len(report.bad), report.conflicts, report.num_duplicates) == (2, [], 0)


def test_processes_see_what_one_process_sees() -> None:
    images = pictures(700)
    images[650] = images[3]
    splits = Splits(train=arrays(images))
    alone, together = check(splits, workers=0), check(splits, workers=2)
    assert alone == together
    assert [[f.index for f in twins] for twins in together.conflicts] == [[3, 650]]


class Deadly(Arrays):
    def read(self, index: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_decoder_that_dies_is_an_error_in_words() -> None:
    source = arrays(pictures(4))
    deadly = Deadly(**{name: getattr(source, name) for name in source.__dataclass_fields__})
    with pytest.raises(UserError, match="a process died while decoding"):
        inspect(deadly, "test", workers=1)


def test_labels_in_words() -> None:
    images = pictures(2)
    several = Arrays(
        images=images, label="x", targets=np.array([[1, 0, 1], [0, 0, 0]]), kind="multilabel", classes=("a", "b", "c")
    )
    number = Arrays(images=images, label="x", targets=np.array([[0.5, 2], [1, 3]]), kind="number", classes=("u", "v"))
    assert [label_text(several, i) for i in range(2)] == ["a|c", "none"]
    assert label_text(number, 0) == "0.5, 2"
    assert label_text(number.unlabelled(), 0) == "no label"


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_stats_are_those_of_the_pixels(channels: int) -> None:
    images = pictures(40, channels=channels)
    measured = stats(Splits(train=arrays(images)), workers=0)["train"]
    np.testing.assert_allclose(measured.mean, images.mean(axis=(0, 1, 2)) / 255, atol=1e-12)
    np.testing.assert_allclose(measured.std, images.std(axis=(0, 1, 2)) / 255, atol=1e-12)
    assert (measured.heights, measured.widths, measured.common_sizes) == ((6, 6, 6), (5, 5, 5), [(6, 5, 40)])
    assert measured.class_counts == {"c0": 20, "c1": 20}


def test_stats_of_a_sample_and_of_files(photos: Path) -> None:
    Image.new("RGB", (20, 30)).save(photos / "train" / "a" / "large.png")
    (photos / "train" / "a" / "bad.png").write_bytes(b"")
    result = stats(open_source(SourceConfig(spec=str(photos))), workers=0)
    train = result["train"]
    assert (train.num_images, train.num_inspected, train.num_bad) == (8, 8, 1)
    assert (train.heights, train.widths, train.common_sizes[0]) == ((6, 6, 30), (5, 5, 20), (6, 5, 6))
    assert stats(open_source(SourceConfig(spec=str(photos))), limit=3, workers=0)["train"].num_inspected == 3
    text = lines(result)
    assert "6–30 (median 6)" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [["a", "5", "3"], ["b", "3", "3"]]
    assert json.loads(json.dumps(train.to_dict()))["class_counts"] == {"a": 5, "b": 3}


def test_stats_of_numbers() -> None:
    targets = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    source = Arrays(images=pictures(10), label="x", targets=targets, kind="number", classes=("u", "v"), channels=3)
    result = stats(Splits(train=source), workers=0)
    u = targets[:, 0].astype(np.float64)
    np.testing.assert_allclose(result["train"].targets["u"], (u.min(), u.mean(), u.std(), u.max()))
    assert "u" in lines(result)


def test_moments_of_nothing_are_zero() -> None:
    assert moments(np.zeros((1, 256), np.int64)) == ((0.0,), (0.0,))
