from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    """The weights file of a tiny classifier."""
    path = tmp_path / "weights.safetensors"
    tiny_predictor().save(path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    """A folder with ``a.png``, ``b.jpg``, ``deep/c.png`` and a text file."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "deep/c.png"):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def stdin(monkeypatch):
    """``stdin(data)`` makes the bytes standard input."""

    def feed(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    return feed
