"""torchvision's named sets, from files as they are handed out but small."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


@pytest.mark.parametrize(("spec", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist(spec: str, folder: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    for part, count in (("train", 30), ("t10k", 10)):
        write_idx(tmp_path / folder / "raw" / f"{part}-images-idx3-ubyte", images[:count])
        write_idx(tmp_path / folder / "raw" / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    splits = open_source(SourceConfig(spec=f"{spec}:{tmp_path}", val_fraction=0))
    assert (len(splits.train), len(splits.test), len(splits.classes), splits.channels) == (30, 10, 10, 1)
    np.testing.assert_array_equal(splits.test.read(3), images[3])
    assert splits.test.targets.tolist() == list(range(10))
    assert splits.test.name(3) == f"{folder.lower()}/test[3]"


@pytest.mark.parametrize("spec", ["cifar10", "cifar100"])
def test_cifar(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    dataset = getattr(datasets, spec.upper())
    key = "labels" if spec == "cifar10" else "fine_labels"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), np.uint8)
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    for listed in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(dataset, listed):
            content = pickle.dumps({"data": pixels, key: list(range(10))})
            (folder / name).write_bytes(content)
            sums.append([name, hashlib.md5(content).hexdigest()])
        monkeypatch.setattr(dataset, listed, sums)
    names = pickle.dumps({dataset.meta["key"]: [f"class {i}" for i in range(10)]})
    (folder / dataset.meta["filename"]).write_bytes(names)
    monkeypatch.setitem(dataset.meta, "md5", hashlib.md5(names).hexdigest())
    splits = open_source(SourceConfig(spec=spec, root=str(tmp_path), val_fraction=0))
    assert (splits.channels, splits.classes[3], splits.test.targets[3]) == (3, "class 3", 3)
    np.testing.assert_array_equal(splits.test.read(3), pixels[3].reshape(3, 32, 32).transpose(1, 2, 0))


@pytest.mark.parametrize("spec", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_nothing_is_fetched_unasked(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    with pytest.raises(UserError, match=f"{spec} is not in {tmp_path}/cache/vitrail/data/.*download=true"):
        open_source(SourceConfig(spec=spec))
