from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrail.data.media.decode import decode
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)


def config(path: Path, **options: object) -> SourceConfig:
    return SourceConfig(spec=str(path), **({"val_fraction": 0} | options))  # type: ignore[arg-type]


def test_one_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=np.array([0, 1, 2, 0, 1, 2]), classes=np.array(["a", "b", "c"]))
    splits = open_source(config(tmp_path / "d.npz"))
    assert (splits.kind, splits.classes, splits.channels) == ("class", ("a", "b", "c"), 3)
    assert splits.train.name(4) == "d.npz[4]"
    np.testing.assert_array_equal(np.asarray(decode(splits.train.read(4))), IMAGES[4])


def test_a_folder_of_splits_with_class_names_beside(tmp_path: Path) -> None:
    for split, size in (("train", 6), ("test", 4)):
        np.savez(tmp_path / f"{split}.npz", x=IMAGES[:size, :, :, 0], y=np.arange(size) % 2)
    (tmp_path / "classes.json").write_text('["shirt", "shoe"]')
    splits = open_source(config(tmp_path))
    assert (len(splits.train), len(splits.test), splits.classes, splits.channels) == (6, 4, ("shirt", "shoe"), 1)
    (tmp_path / "classes.json").write_text('["shirt"]')
    with pytest.raises(UserError, match=r"train\.npz: label 1: the class 1 is out of range"):
        open_source(config(tmp_path))
    (tmp_path / "classes.json").write_text('{"shirt": 0}')
    with pytest.raises(UserError, match="no list of class names"):
        open_source(config(tmp_path))


def test_numbers_and_several_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=np.linspace(0, 1, 6))
    assert open_source(config(tmp_path / "d.npz")).kind == "number"
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=np.tri(6, dtype=int))
    assert open_source(config(tmp_path / "d.npz")).kind == "multilabel"
    assert open_source(config(tmp_path / "d.npz", labelled=False)).kind == "none"


def test_many_channels_come_as_tensors(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 256, (4, 5, 4, 7), np.uint8)
    np.savez(tmp_path / "d.npz", images=deep, labels=np.arange(4) % 2)
    source = open_source(config(tmp_path / "d.npz")).train
    pixels = decode(source.read(2), source.channels)
    np.testing.assert_array_equal(pixels.numpy(), deep[2].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": IMAGES}, "none of the arrays images, x, X"),
        ({"images": IMAGES}, "none of the arrays labels"),
        ({"images": IMAGES, "labels": np.arange(5)}, "6 images but 5 labels"),
        ({"images": IMAGES / 255, "labels": np.arange(6)}, "images are float64"),
        ({"images": IMAGES[0, 0], "labels": np.arange(4)}, r"of shape \(4, 3\)"),
        ({"images": IMAGES, "labels": np.array([{}] * 6)}, "cannot be read: object arrays cannot be loaded"),
    ],
)
def test_broken_archives(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_source(config(tmp_path / "d.npz"))


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:300], lambda d: b"not a zip at all"])
def test_damaged_archives(damage: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=np.arange(6))
    (tmp_path / "d.npz").write_bytes(damage((tmp_path / "d.npz").read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=r"d\.npz cannot be read"):
        open_source(config(tmp_path / "d.npz"))


@pytest.mark.real_data
def test_fashion_mnist_as_it_lies_there(real_data: Path) -> None:
    splits = open_source(SourceConfig(spec=str(real_data / "fashion_mnist")))
    assert [(name, len(source)) for name, source in splits.items()] == [
        ("train", 54000),
        ("val", 6000),
        ("test", 10000),
    ]
    assert splits.classes[:2] == ("T-shirt/top", "Trouser")
    assert splits.test.counts().tolist() == [1000] * 10
