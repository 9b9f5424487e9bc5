"""12-bit data in 16-bit files (vision#2218: nearly black, without a word), and floating-point pixels with a range.

Siblings looked at: grey and colour, PNG, TIFF, ``.npy`` and ``.npz``, 10 and 14 bits, white that is zero, check, stats,
training (whose range the weights keep) and prediction, and what stays refused without a range.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wild_files import TINY_RUN, opened, tiff

from vitrail.cli import main
from vitrail.config import override
from vitrail.data.inspection.check import check
from vitrail.data.inspection.stats import lines, stats
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.reading import Reading, read_range
from vitrail.errors import UserError

DEEP = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
DEEP[0, 0] = 4095
RANGE = Reading(value_range=(0, 4095))
SHOWN = np.rint(DEEP / 4095 * 255)


def png_of(pixels: np.ndarray) -> bytes:
    """PNG of 16 bits, (H, W) or (H, W, 3)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def npy_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


COLOUR = np.stack([DEEP] * 3, axis=-1)
FILES = {
    "grey PNG": (png_of(DEEP), 1),
    "colour PNG": (png_of(COLOUR), 3),
    "grey TIFF": (tiff(DEEP[..., None]), 1),
    "colour TIFF": (tiff(COLOUR), 3),
    "array": (DEEP, 1),
    "npy": (npy_of(DEEP), 1),
}


@pytest.mark.parametrize("name", FILES)
def test_few_bits_are_said_and_a_range_shows_them(name: str) -> None:
    data, channels = FILES[name]
    told: list[str] = []
    dark = np.asarray(decode(data, channels, warn=told.append))
    assert dark.max() == 15
    assert len(told) == 1
    assert "16-bit samples up to 4,095 only, which come out dark" in told[0]
    assert "--value-range 0:4095" in told[0]
    shown = np.asarray(decode(data, channels, reading=RANGE, warn=told.append))
    assert len(told) == 1
    np.testing.assert_array_equal(shown[..., 0] if channels == 3 else shown, SHOWN)


def test_full_16_bits_say_nothing_and_white_may_be_zero() -> None:
    told: list[str] = []
    decode((DEEP * 16).astype(np.uint16), 1, warn=told.append)
    assert not told
    inverse = tiff(DEEP[..., None])
    at = inverse.index(struct.pack("<HHII", 262, 3, 1, 1)) + 8
    inverse = inverse[:at] + b"\0\0\0\0" + inverse[at + 4 :]
    np.testing.assert_array_equal(np.asarray(decode(inverse, 1, reading=RANGE)), 255 - SHOWN)


def test_floating_point_needs_a_range() -> None:
    pixels = np.linspace(-1, 2, 48, dtype=np.float32).reshape(6, 8, 1)
    for data in (tiff(pixels), npy_of(pixels), pixels):
        with pytest.raises(BadImage, match="range"):
            decode(data, 1)
        shown = np.asarray(decode(data, 1, reading=Reading(value_range=(0, 1))))
        np.testing.assert_array_equal(shown, np.rint(pixels[..., 0].clip(0, 1) * 255))


def test_a_range_is_two_numbers_in_order() -> None:
    assert read_range("-1000:400") == (-1000, 400)
    with pytest.raises(UserError, match="write it as 0:4095"):
        read_range("4095")
    with pytest.raises(UserError, match="give the lower value first"):
        override(Reading(), {"value_range": [1, 0]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("a", "b"):
        for number in range(3):
            file = tmp_path / "p" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(DEEP, number, axis=1)).save(file)
    return tmp_path / "p"


def test_check_and_stats_tell(folder: Path, capsys) -> None:
    splits = opened(folder)
    report = check(splits, workers=0)
    assert report.ok
    assert len(report.warned) == 6
    measured = stats(splits, workers=0, channels=1)
    assert "warning: train: 6 of 6 images, such as " in lines(measured)
    assert measured["train"].mean[0] < 0.06
    assert not check(splits, workers=0, reading=RANGE).warned
    assert main(["data", "stats", str(folder), "--channels", "1", "--value-range", "0:4095", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["mean"][0] > 0.4


def test_the_weights_keep_the_range(folder: Path) -> None:
    run = folder.parent / "run"
    assert main(["train", str(folder), *TINY_RUN, "--value-range", "0:4095", "--channels", "1", "--out", str(run)]) == 0
    from vitrail import load

    deep = str(folder / "a" / "0.png")
    assert main(["predict", str(run), deep, "--value-range", "0:100"]) == 0
    assert main(["predict", str(run), deep, "--value-range", "100"]) == 2
    predictor = load(str(run), device="cpu")
    assert predictor.preprocess.config.reading.value_range == (0, 4095)
    assert np.asarray(predictor.read(folder / "a" / "0.png")).max() == 255
