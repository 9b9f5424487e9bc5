"""Folders as CIFAR and MNIST are unpacked, given by their path alone: read by the source that knows them.

Siblings looked at: the folder itself and the one around it; a class folder of such a name is none.
"""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from wild_files import draw, opened

from vitrail.errors import UserError

LABELS = np.array([0, 1, 2, 3])


def test_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "t10k"):
        images = struct.pack(">4I", 2051, 4, 28, 28) + bytes(4 * 28 * 28)
        labels = struct.pack(">2I", 2049, 4) + LABELS.astype(np.uint8).tobytes()
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{name}-{kind}-ubyte").write_bytes(data)
            (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(data))
    for spec in (tmp_path / "data", tmp_path / "data" / "MNIST"):
        assert opened(spec).split("train").targets.tolist() == LABELS.tolist()


def test_cifar_that_is_damaged_is_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": 0}))
    for spec in (tmp_path / "data", folder):
        with pytest.raises(UserError, match=r"is not in .*data .or damaged"):
            opened(spec)


def test_a_class_of_such_a_name(tmp_path: Path) -> None:
    assert opened(draw(tmp_path / "p", "MNIST/1.png", "CIFAR/2.png")).classes == ("CIFAR", "MNIST")
