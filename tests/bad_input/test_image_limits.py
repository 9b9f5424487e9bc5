"""Images that cost much: refused by a limit that is named, or decoded within 2 s and 300 MB."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_images import REFUSED, TAKEN, encoded, jpeg, netpbm, upside
from PIL import Image

from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage, TooManyPixels, decode, upright_size
from vitrail.data.media.image_like import open_image
from vitrail.data.media.read import read_regular, read_size
from vitrail.errors import UserError

SECONDS, MB = 2.0, 300


def _peak(*, reset: bool = False) -> float:
    """In MB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_cost_too_much_is_refused_before_it_is_decoded(case: str) -> None:
    build, cause = REFUSED[case]
    data = build()
    begun = time.process_time()
    with pytest.raises(BadImage, match=cause) as caught:
        decode(data)
    assert time.process_time() - begun < SECONDS / 4
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TooManyPixels) == any(each in cause for each in ("PIXELS", "MEMORY"))


@pytest.mark.skipif(sys.platform != "linux", reason="resets the peak memory through /proc")
@pytest.mark.parametrize("case", TAKEN)
def test_what_looks_dear_and_is_not_stays_within_time_and_memory(case: str) -> None:
    data = TAKEN[case]()
    before, begun = _peak(reset=True), time.process_time()
    decode(data, warn=lambda text: None)
    assert time.process_time() - begun < SECONDS
    assert _peak() - before < MB


def test_a_limit_is_raised_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (64, 64)), "PNG")
    monkeypatch.setenv("VITRAIL_MAX_PIXELS", "4095")
    with pytest.raises(BadImage, match=r"more than the limit of 4,095 \(VITRAIL_MAX_PIXELS\)"):
        decode(data)
    monkeypatch.setenv("VITRAIL_MAX_PIXELS", "4096")
    assert decode(data).size == (64, 64)
    monkeypatch.setenv("VITRAIL_MAX_IMAGE_MEMORY", "10000")
    with pytest.raises(BadImage, match="VITRAIL_MAX_IMAGE_MEMORY"):
        decode(data)


@pytest.mark.parametrize("text", ["many", "-1", "0", "1e6", "9" * 30])
def test_a_limit_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VITRAIL_MAX_PIXELS", text)
    with pytest.raises(UserError, match=r"VITRAIL_MAX_PIXELS=.*give a positive integer"):
        decode(encoded(Image.new("RGB", (8, 8)), "PNG"))


def test_files_of_more_bytes_than_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG"))
    monkeypatch.setenv("VITRAIL_MAX_IMAGE_BYTES", "20")
    with pytest.raises(BadImage, match=r"more than the limit of 20 \(VITRAIL_MAX_IMAGE_BYTES"):
        read_regular(tmp_path / "a.png")


def test_a_pillow_image_has_the_same_limit() -> None:
    with pytest.raises(UserError, match="VITRAIL_MAX_PIXELS"):
        open_image(Image.new("1", (9900, 6000)), 3)


@pytest.mark.parametrize("maxval", [1, 15, 254, 255, 1000, 65535])
def test_grey_levels_of_any_highest_value(maxval: int) -> None:
    levels = np.linspace(0, maxval, 64).astype(np.int64)
    samples = levels.astype(">u2" if maxval > 255 else np.uint8).tobytes()
    found = np.asarray(decode(b"P5 # a comment\n8\t8\r" + str(maxval).encode() + b"\n" + samples, 1)).ravel()
    exact = levels / maxval
    expected = np.round(exact * 65535).astype(np.int64) >> 8 if maxval > 255 else np.round(exact * 255)
    assert found.tolist() == expected.tolist()


def test_colours_of_a_ppm_are_not_mixed_up() -> None:
    head = netpbm(b"P6", 3, (1, 2), 0)
    assert np.asarray(decode(head + bytes([3, 0, 0, 0, 9, 3]))).tolist() == [[[255, 0, 0]], [[0, 255, 255]]]
    with pytest.raises(BadImage, match="cut short"):
        decode(head + bytes(5))


def test_what_is_converted_in_strips_is_what_would_be_converted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rgba = Image.fromarray(draw.integers(0, 256, (37, 23, 4), np.uint8))
    grey16 = Image.fromarray(draw.integers(0, 65536, (37, 23)).astype(np.uint16))
    files = [encoded(rgba, "PNG"), encoded(rgba.quantize(16), "PNG", transparency=3), encoded(grey16, "PNG")]
    at_once = [np.asarray(decode(file)) for file in files]
    monkeypatch.setattr("vitrail.data.media.channels.STRIP", 100)
    for whole, file in zip(at_once, files, strict=True):
        assert np.array_equal(np.asarray(decode(file)), whole)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_size_is_that_of_the_decoded_image(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(encoded(Image.new("RGB", (30, 20)), kind))
    assert read_size(file) == (20, 30) == upright_size(file.read_bytes())


def test_a_size_is_after_the_orientation_and_needs_no_pixels(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    whole = upside((30, 20), 6)
    file.write_bytes(whole[: whole.index(b"\xff\xda") + 20])
    assert read_size(file) == (30, 20)
    file.write_bytes(jpeg()[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 6 + jpeg()[2:])  # further than the beginning
    assert read_size(file) == (64, 64)


def test_the_size_of_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadImage, match="not a regular file"):
        read_size(tmp_path / "pipe")


@pytest.mark.parametrize("case", REFUSED)
def test_reading_the_size_alone_is_no_way_around(case: str) -> None:
    data = REFUSED[case][0]()
    begun = time.process_time()
    if isinstance(data, bytes):
        with contextlib.suppress(BadImage):
            upright_size(data)
    assert time.process_time() - begun < SECONDS / 4


def test_every_limit_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for name, limit in vars(limits).items():
        if isinstance(limit, limits.Limit):
            assert f"| `{limit.variable}` | {limit.default:,} |" in page, name
