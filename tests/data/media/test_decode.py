"""Decoding beyond the corpus of tests/bad_input: channels, arrays, rare encodings, and damage of every kind."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitrail.data.media import gif, jpeg, netpbm, png, tiff_gate
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.formats import orientation, sniff, webp_size
from vitrail.data.media.limits import Broken

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 4), np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_formats_are_exact(kind: str) -> None:
    pixels = PIXELS[..., :3] if kind != "GIF" else PIXELS[..., :3] // 128 * 255
    np.testing.assert_array_equal(np.asarray(decode(encoded(pixels, kind))), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("options", [{}, {"exif": Image.Exif()}, {"quality": 30}])
def test_lossy_formats_equal_pillow(kind: str, options: dict[str, object]) -> None:
    data = encoded(PIXELS[..., :3], kind, **options)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data))))


def test_cutting_metadata_away_changes_no_pixel_of_a_jpeg() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = encoded(PIXELS[..., :3], "JPEG", exif=exif, icc_profile=b"x" * 100_000, comment=b"hello", progressive=True)
    gated = jpeg.gate(data)
    bare, found, adobe = gated.data, gated.exif, gated.adobe
    assert (len(bare) < len(data) - 100_000, bool(found), adobe) == (True, True, False)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.real_data
def test_photos_equal_pillow(real_data: Path) -> None:
    for path in sorted((real_data / "imagenet_samples").glob("*.JPEG"))[::10]:
        wanted = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        np.testing.assert_array_equal(np.asarray(decode(path.read_bytes())), np.asarray(wanted))


@pytest.mark.parametrize(
    ("stored", "channels", "mode"),
    [("L", 1, "L"), ("L", 3, "RGB"), ("L", 4, "RGBA"), ("RGB", 1, "L"), ("RGB", 4, "RGBA"), ("RGBA", 4, "RGBA"),
     ("RGBA", 3, "RGB"), ("RGBA", 1, "L"), ("1", 1, "L"), ("P", 4, "RGBA"), ("LA", 4, "RGBA")],
)  # fmt: skip
def test_channels_on_request(stored: str, channels: int, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(stored)
    got = decode(encoded(image, "PNG"), channels)
    assert (got.mode, got.size) == (mode, (14, 9))
    if "A" not in stored or channels == 4:
        np.testing.assert_array_equal(np.asarray(got), np.asarray(image.convert(mode)))


def test_transparency_meets_the_background() -> None:
    pixels = PIXELS.copy()
    pixels[..., 3] = 0
    assert np.asarray(decode(encoded(pixels, "PNG"), background=(1, 2, 3))).reshape(-1, 3).tolist() == [[1, 2, 3]] * 126
    np.testing.assert_array_equal(np.asarray(decode(encoded(pixels, "PNG"), 4)), pixels)
    keyed = encoded(PIXELS[..., :3], "PNG", transparency=tuple(PIXELS[0, 0, :3].tolist()))
    assert np.asarray(decode(keyed, background=(9, 9, 9)))[0, 0].tolist() == [9, 9, 9]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_picture_channels(channels: int) -> None:
    pixels = PIXELS[..., :channels]
    stored = pixels[..., 0] if channels == 1 else pixels
    for data in (stored, np.ascontiguousarray(pixels), npy(stored), npy(np.asfortranarray(pixels))):
        np.testing.assert_array_equal(np.asarray(decode(data, channels)), stored)
    np.testing.assert_array_equal(np.asarray(decode(stored.astype(np.uint16) * 257, channels)), stored)
    assert decode(stored).mode == "RGB"


@pytest.mark.parametrize("channels", [2, 5, 13])
def test_arrays_of_many_channels_are_tensors(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 7, channels), np.uint8)
    pixels.flags.writeable = False
    for data in (pixels, npy(pixels)):
        tensor = decode(data, channels)
        assert tensor.shape == (channels, 6, 7)
        np.testing.assert_array_equal(tensor.numpy(), pixels.transpose(2, 0, 1))
    with pytest.raises(BadImage, match=f"has {channels} channels, where 3 are wanted"):
        decode(pixels)
    with pytest.raises(BadImage, match=f"has 3 channels, where {channels} are wanted"):
        decode(encoded(PIXELS[..., :3], "PNG"), channels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 4)), "array of float64"),
        (np.zeros(4, np.uint8), r"of shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"of shape \(0, 4\)"),
        (npy(np.array([{}])), "Python objects"),
        (npy(PIXELS)[:-1], "cut short"),
        (npy(PIXELS)[:20], "no valid header"),
        (b"BM" + bytes(60), "damaged|pixels"),
        (b"GIF89a" + bytes(60), "damaged|pixels"),
        (b"RIFF\0\0\0\0WEBPVP8X", "damaged|pixels"),
        (b"RIFF\0\0\0\0WEBPabcd", "no image header"),
        (b"P6 4000000000 4000000000 255\n", "limit"),
        (b"\xff\xd8\xff\xd9", "JPEG"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
        (b"hello world", "no image"),
    ],
)
def test_what_cannot_be_used_is_explained(data: bytes | np.ndarray, message: str) -> None:
    with pytest.raises(BadImage, match=message) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_a_claim_of_huge_arrays_allocates_nothing() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
    with pytest.raises(BadImage, match=r"cut short: 3 bytes for an array of shape \(1000000, 1000000\)"):
        decode(stream.getvalue() + b"abc")


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_beyond_jpeg(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {"compression": "tiff_lzw"} if turn % 2 else {}
    data = encoded(PIXELS[..., :3], kind, exif=exif, **options)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert wanted.size == ((14, 9) if turn < 5 else (9, 14))
    np.testing.assert_array_equal(np.asarray(decode(data)), np.asarray(wanted))


def test_exif_orientation_of_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PIXELS[..., :3], "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decode(data)), np.rot90(PIXELS[..., :3], -1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(order: str) -> None:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 8, 0)
    block = head + struct.pack(order + "IH", 8, 1) + entry
    assert orientation(block) == orientation(b"Exif\0\0" + block) == 8
    for cut in range(8, len(block) - 2):
        with pytest.raises(Broken):
            orientation(block[:cut])


@pytest.mark.parametrize(("dtype", "shift"), [("<u2", 8), (">u2", 8)])
def test_16_bit_tiff_keeps_the_high_byte(dtype: str, shift: int) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6)).astype(dtype)
    mode = "I;16" if dtype == "<u2" else "I;16B"
    data = encoded(Image.frombytes(mode, (6, 5), deep.tobytes()), "TIFF")
    np.testing.assert_array_equal(np.asarray(decode(data, 1)), (deep >> shift).astype(np.uint8))


def test_16_bit_pgm_keeps_the_high_byte() -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6)).astype(">u2")
    data = b"P5 6 5 65535\n" + deep.tobytes()
    np.testing.assert_array_equal(np.asarray(decode(data, 1)), (deep >> 8).astype(np.uint8))


def test_webp_sizes_come_from_the_header() -> None:
    for options in ({"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0MM\0*" + bytes(8)}):
        assert webp_size(encoded(PIXELS[..., :3], "WEBP", **options)) == (14, 9)


FILES = {kind: encoded(PIXELS[..., :3], kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damage_never_escapes(kind: str, draw: st.DataObject) -> None:
    """Whatever happens to the bytes, the outcome is an image or a BadImage."""
    data = bytearray(FILES[kind])
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    del data[draw.draw(st.integers(1, len(data))) :]
    try:
        image = decode(bytes(data), warn=lambda text: None, max_pixels=100_000)
    except BadImage as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert image.mode == "RGB"


@given(st.binary(max_size=64))
def test_random_bytes_are_never_an_image(data: bytes) -> None:
    for parse in (
        sniff,
        jpeg.gate,
        png.gate,
        gif.gate,
        tiff_gate.gate,
        netpbm.header,
        png.header,
        webp_size,
        orientation,
    ):
        try:
            parse(data)
        except Broken as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        ((1600, 1200), 150, (200, 150)),
        ((1600, 1200), 151, (400, 300)),
        ((1600, 1200), 301, (800, 600)),
        ((1600, 1200), 601, (1600, 1200)),
        ((1604, 1200), 100, (401, 300)),  # eighths are no whole pixels
        ((1601, 1200), 100, (1601, 1200)),
    ],
)
def test_a_jpeg_comes_smaller_where_that_suffices_and_fits(size, smallest, expected):
    data = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(data, "JPEG")
    assert decode(data.getvalue(), smallest=smallest).size == expected
    assert decode(data.getvalue()).size == size


@pytest.mark.parametrize("start", [100, 2**40, 2**63, 2**64 - 1])
def test_a_directory_beyond_the_file(start: int) -> None:
    data = b"II+\0" + struct.pack("<HHQ", 8, 0, start) + bytes(64)
    with pytest.raises(BadImage, match="is cut short: the TIFF has no directory"):
        decode(data)
