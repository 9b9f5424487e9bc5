"""Images of the corpus: broken and misnamed files, colour modes, orientations, bombs, refused formats, names."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from corpus_case import Case, Expect, blocks, encode, jpeg, photo, png
from PIL import Image

IMAGES: list[Case] = []


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_file(width: int, height: int, depth: int, color: int, data: bytes, *extra: bytes) -> bytes:
    """A PNG from its parts; ``data`` is the compressed image, ``extra`` chunks stand before it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", header, *extra, png_chunk(b"IDAT", data) if data else b"", png_chunk(b"IEND", b"")]
    )


@cache  # it takes a second
def blank_rows(num_rows: int, row_bytes: int) -> bytes:
    """Compressed scan lines of zeros."""
    packer = zlib.compressobj(9)
    row = bytes(row_bytes + 1)
    block = row * 500
    return b"".join([packer.compress(block) for _ in range(num_rows // 500)] + [packer.flush()])


def _image(
    number: int,
    name: str,
    content: Callable[[], bytes],
    expect: Expect = "reject",
    *,
    file: str | bytes = "picture.png",
    cause: str = "",
    golden: Callable[[], np.ndarray] | None = None,
    tolerance: int = 0,
    mode: int = 0o644,
) -> None:
    def build(root: Path) -> Path:
        path = os.path.join(os.fsencode(root), os.fsencode(file))
        with open(path, "wb") as stream:
            stream.write(content())
        os.chmod(path, mode)
        return Path(os.fsdecode(path))

    IMAGES.append(
        Case(
            number,
            name,
            "image",
            expect,
            build,
            cause=cause,
            golden=golden,
            tolerance=tolerance,
            needs_permissions=mode == 0,
        )
    )


# 1-8: broken and misnamed files ----------------------------------------------------------------------------------


def _flipped_bits() -> bytes:
    data = bytearray(jpeg(photo()))
    start = data.index(b"\xff\xda") + 40
    for position in range(start, len(data) - 40, 97):
        if data[position] != 0xFF and data[position - 1] != 0xFF and data[position] ^ 0x10 != 0xFF:
            data[position] ^= 0x10
    return bytes(data)


def _bad_crc() -> bytes:
    data = bytearray(png(photo()))
    data[-14] ^= 1  # the last byte of IDAT's checksum
    return bytes(data)


_image(1, "empty", lambda: b"", file="picture.jpg", cause="0 bytes")
_image(2, "html", lambda: b"<!DOCTYPE html>\n<html><body>404</body></html>", file="picture.jpg", cause="HTML")
_image(3, "jpeg-cut-in-half", lambda: (d := jpeg(photo()))[: len(d) // 2], file="picture.jpg", cause="cut short")
_image(4, "jpeg-without-its-last-2-bytes", lambda: jpeg(photo())[:-2], file="picture.jpg", cause="cut short")
_image(5, "jpeg-with-flipped-bits", _flipped_bits, "accept", file="picture.jpg")
_image(6, "png-cut", lambda: (d := png(photo()))[: len(d) // 2], cause="cut short")
_image(7, "png-bad-checksum", _bad_crc, cause="checksum")
_image(8, "png-named-jpg", lambda: png(photo()), "accept", file="picture.jpg", golden=photo)

# 9-18: colour modes ----------------------------------------------------------------------------------------------

INKS = np.array([[[0, 200, 40, 10], [90, 0, 220, 60]], [[255, 0, 0, 0], [20, 20, 20, 200]]], np.uint8)
INKS = INKS.repeat(16, axis=0).repeat(16, axis=1)


def _cmyk_rgb() -> np.ndarray:
    ink = INKS.astype(np.float64)
    return np.round((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)


def _without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def _deep(channels: int) -> np.ndarray:
    """16-bit samples (16, 16, C) over the whole range."""
    return np.random.default_rng(3).integers(0, 65536, (16, 16, channels)).astype(np.uint16)


def _deep_png(channels: int) -> bytes:
    rows = _deep(channels).astype(">u2").reshape(16, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png_file(16, 16, 16, {1: 0, 3: 2}[channels], data)


def _rgb_of(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def _float_tiff() -> bytes:
    return encode(Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)), "TIFF")


PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 60, 30]
INDICES = np.random.default_rng(4).integers(0, 4, (12, 10), np.uint8)


def _palette_png(**options: Any) -> bytes:
    image = Image.frombytes("P", (10, 12), INDICES.tobytes())
    image.putpalette(PALETTE)
    return encode(image, "PNG", **options)


def _palette_rgb() -> np.ndarray:
    return np.array(PALETTE, np.uint8).reshape(-1, 3)[INDICES]


def _palette_on_white() -> np.ndarray:
    rgb = _palette_rgb()
    rgb[INDICES == 0] = 255  # the transparent red
    return rgb


def _with_alpha(channels: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (12, 10, channels), np.uint8)


def _on_white(channels: int) -> np.ndarray:
    pixels = _with_alpha(channels).astype(np.float64)
    color, alpha = pixels[..., :-1], pixels[..., -1:] / 255
    return np.broadcast_to(np.round(color * alpha + 255 * (1 - alpha)), (12, 10, 3)).astype(np.uint8)


BITS = np.random.default_rng(6).integers(0, 2, (12, 10)).astype(bool)

_image(
    9,
    "cmyk-jpeg",
    lambda: _without_adobe_marker(jpeg(Image.frombytes("CMYK", (32, 32), (255 - INKS).tobytes()))),
    "accept",
    file="picture.jpg",
    golden=_cmyk_rgb,
    tolerance=3,
)
_image(
    10,
    "adobe-inverted-cmyk-jpeg",
    lambda: jpeg(Image.frombytes("CMYK", (32, 32), INKS.tobytes())),
    "accept",
    file="picture.jpg",
    golden=_cmyk_rgb,
    tolerance=3,
)
_image(11, "16-bit-grey", lambda: _deep_png(1), "accept", golden=lambda: _rgb_of((_deep(1) >> 8).astype(np.uint8)))
_image(12, "16-bit-rgb", lambda: _deep_png(3), "accept", golden=lambda: (_deep(3) >> 8).astype(np.uint8))
_image(13, "float-tiff", _float_tiff, file="picture.tif", cause="floating-point")
_image(14, "palette", _palette_png, "accept", golden=_palette_rgb)
_image(15, "palette-with-transparency", lambda: _palette_png(transparency=0), "accept", golden=_palette_on_white)
_image(16, "rgba", lambda: png(_with_alpha(4)), "accept", golden=lambda: _on_white(4), tolerance=1)
_image(17, "grey-with-alpha", lambda: png(_with_alpha(2)), "accept", golden=lambda: _on_white(2), tolerance=1)
_image(18, "1-bit", lambda: png(BITS), "accept", golden=lambda: _rgb_of(BITS * np.uint8(255)))

# 19-25: orientation, frames, shapes ------------------------------------------------------------------------------

_TO_STORED = {  # what the camera stored, for each orientation, of the upright picture
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[:, ::-1],
}


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(np.ascontiguousarray(_TO_STORED[orientation](blocks())), exif=exif.tobytes())


def _frames(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(np.roll(blocks(), shift, axis=1)) for shift in (0, 16, 32)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


for _orientation in _TO_STORED:
    _image(
        19,
        f"exif-orientation-{_orientation}",
        lambda orientation=_orientation: _oriented(orientation),
        "accept",
        file="picture.jpg",
        golden=blocks,
        tolerance=3,
    )
_image(
    20,
    "corrupt-exif",
    lambda: jpeg(blocks(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(range(90))),
    "warn",
    file="picture.jpg",
    cause="EXIF",
    golden=blocks,
    tolerance=3,
)
_image(21, "animated-gif", lambda: _frames("GIF", duration=50), "accept", file="picture.gif", golden=blocks)
_image(22, "animated-png", lambda: _frames("PNG"), "accept", golden=blocks)
_image(22, "animated-webp", lambda: _frames("WEBP", lossless=True), "accept", file="picture.webp", golden=blocks)
_image(23, "multi-page-tiff", lambda: _frames("TIFF"), "warn", file="picture.tiff", cause="pages", golden=blocks)
_image(24, "1x1", lambda: png(photo(size=(1, 1))), "accept", golden=lambda: photo(size=(1, 1)))
_image(25, "1x10000", lambda: png(photo(size=(1, 10000))), "accept", golden=lambda: photo(size=(1, 10000)))

# 26-34: bombs, refused formats, metadata, names ------------------------------------------------------------------

_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
_PSD = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(220)
_PDF = b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
_SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n'


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(64_000_000), 9)


def _with_chunk(chunk: bytes) -> bytes:
    data = png(photo())
    return data[:33] + chunk + data[33:]


_image(26, "header-of-10000x10000", lambda: png_file(10000, 10000, 8, 2, b""), cause="10000 × 10000")
_image(26, "header-of-6000x6000", lambda: png_file(6000, 6000, 8, 2, zlib.compress(b"")), cause="cut short")
_image(27, "20000x20000", lambda: png_file(20000, 20000, 1, 0, blank_rows(20000, 2500)), cause="20000 × 20000")
_image(28, "13000x13000-in-160-kB", lambda: png_file(13000, 13000, 8, 0, blank_rows(13000, 13000)), cause="limit")
_image(29, "eps", lambda: _EPS, file="picture.eps", cause="PostScript")
_image(29, "psd", lambda: _PSD, file="picture.psd", cause="Photoshop")
_image(29, "pdf", lambda: _PDF, file="picture.pdf", cause="PDF")
_image(29, "eps-named-png", lambda: _EPS, cause="PostScript")
_image(30, "svg", lambda: _SVG, file="picture.svg", cause="SVG")
_image(31, "huge-text-chunk", lambda: _with_chunk(png_chunk(b"zTXt", b"Comment\0\0" + _bomb())), "accept", golden=photo)
_image(31, "huge-icc-chunk", lambda: _with_chunk(png_chunk(b"iCCP", b"profile\0\0" + _bomb())), "accept", golden=photo)
_image(
    32,
    "progressive-jpeg",
    lambda: jpeg(blocks(), progressive=True),
    "accept",
    file="picture.jpg",
    golden=blocks,
    tolerance=3,
)
for _name, _file in {"non-ascii": "é中.png", "emoji": "🐱.png", "newline": "a\nb.png"}.items():
    _image(33, f"{_name}-in-path", lambda: png(photo()), "accept", file=_file, golden=photo)
_image(34, "non-utf8-name", lambda: png(photo()), "accept", file=b"caf\xe9\xff.png", golden=photo)
_image(47, "unreadable", lambda: png(photo()), cause="permission", mode=0)
