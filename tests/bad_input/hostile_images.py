"""Images that are small to send and dear to decode: builders by name, with what a refusal must mention."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

Build = Callable[[], "bytes | np.ndarray"]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG", **options)


def netpbm(kind: bytes, maxval: int, size: tuple[int, int], sample_bytes: int) -> bytes:
    return kind + b"\n%d %d\n%d\n" % (*size, maxval) + bytes(size[0] * size[1] * sample_bytes)


def after_start(segments: bytes, times: int) -> bytes:
    whole = jpeg()
    return whole[:2] + segments * times + whole[2:]


def in_scan(content: bytes, times: int) -> bytes:
    whole = jpeg()
    return whole[:-2] + content * times + whole[-2:]


def many_scans(size: tuple[int, int], times: int) -> bytes:
    whole = jpeg(size, progressive=True)
    last = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    return whole[:-2] + last * times + whole[-2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_chunks(kind: bytes, data: bytes, times: int) -> bytes:
    whole = encoded(Image.new("RGB", (8, 8)), "PNG")
    return whole[:33] + chunk(kind, data) * times + whole[33:]


def run_length_bmp(width: int, height: int) -> bytes:
    body = (b"\x02\x00" * (width // 2) + b"\0\0") * height + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    begin = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + header + bytes(1024) + body


def gif_blocks(between: bytes) -> bytes:
    whole = encoded(Image.new("P", (64, 64)), "GIF")
    head = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:head] + between + whole[whole.rfind(b",\0\0\0\0") :]


def webp_chunks(times: int) -> bytes:
    whole = encoded(Image.new("RGB", (64, 64)), "WEBP")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([0, 0, 0, 0, 63, 0, 0, 63, 0, 0])
    body = b"WEBP" + extended + b"ABCD\0\0\0\0" * times + whole[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_tags(count: int, number: int, size: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", 256 + place, 4, count, 8) for place in range(number))
    return (b"II*\0" + struct.pack("<IH", 8, number) + entries + bytes(4)).ljust(size, b"\0")


def tiff_strips(number: int) -> bytes:
    tags = {256: (4, 1, 8), 257: (4, 1, number), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    begin = 8 + 2 + 12 * 9 + 4
    tags |= {278: (4, 1, 1), 273: (4, number, begin), 279: (4, number, begin + 4 * number)}
    pixels = begin + 8 * number
    directory = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    table = np.full(number, pixels, "<u4").tobytes() + np.full(number, 8, "<u4").tobytes()
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + table + bytes(8)


def claimed(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def claimed_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = np.random.default_rng(0).bytes(200_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def claimed_webp(width: int, height: int) -> bytes:
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body


def upside(size: tuple[int, int], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(Image.new("RGB", size), "JPEG", exif=exif)


def npy(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


SEGMENTS, MEMORY, PASSES = (f"VITRAIL_MAX_IMAGE_{each}" for each in ("SEGMENTS", "MEMORY", "PASSES"))
PIXELS = "VITRAIL_MAX_PIXELS"

TABLE = b"\xff\xdb\0\x43\0" + bytes([1]) * 64
REFUSED: dict[str, tuple[Build, str]] = {
    "a JPEG of empty APP1 segments": (lambda: after_start(b"\xff\xe1\0\2", 50_000), SEGMENTS),
    "a JPEG of empty APP0 segments": (lambda: after_start(b"\xff\xe0\0\2", 50_000), SEGMENTS),
    "a JPEG of quantisation tables": (lambda: after_start(TABLE, 50_000), SEGMENTS),
    "a JPEG of empty Huffman tables": (lambda: after_start(b"\xff\xc4\0\2", 50_000), SEGMENTS),
    "a JPEG of many scans": (lambda: many_scans((256, 256), 7000), PASSES),
    "a JPEG of many scans of nothing": (lambda: many_scans((1, 1), 100_000), PASSES),
    "a PNG of empty text": (lambda: png_chunks(b"tEXt", b"", 50_000), SEGMENTS),
    "a PNG of empty data": (lambda: png_chunks(b"IDAT", b"", 50_000), SEGMENTS),
    "a PNG of palettes": (lambda: png_chunks(b"PLTE", bytes(3), 50_000), SEGMENTS),
    "a GIF of comments": (lambda: gif_blocks(b"!\xfe" + (b"\xff" + bytes(255)) * 25_000 + b"\0"), SEGMENTS),
    "a GIF of empty extensions": (lambda: gif_blocks(b"!\xfe\0" * 50_000), SEGMENTS),
    "a GIF of controls": (lambda: gif_blocks(b"!\xf9\4\0\0\0\0\0" * 50_000), SEGMENTS),
    "a WebP of chunks": (lambda: webp_chunks(50_000), SEGMENTS),
    "a TIFF of tags that share their values": (lambda: tiff_tags(20_000, 3000, 200_000), "longer than the file"),
    "a TIFF of long tags": (lambda: tiff_tags(50_000, 3, 300_000), SEGMENTS),
    "a TIFF of strips": (lambda: tiff_strips(100_000), SEGMENTS),
    "a run-length BMP": (lambda: run_length_bmp(2000, 2000), "too slowly"),
    "a PPM of spaces": (lambda: b"P6\n" + b" " * 10**6 + b"1 1\n255\n" + bytes(3), "header"),
    "a PPM of comments": (lambda: b"P6\n" + b"#\n" * 10**6 + b"1 1\n255\n" + bytes(3), "header"),
    "49 megapixels with alpha in a PNG": (lambda: claimed_png(7000, 7000), MEMORY),
    "7000² pixels in a WebP": (lambda: claimed_webp(7000, 7000), MEMORY),
    "7000² pixels on their side": (lambda: claimed(upside((64, 64), 6), 7000, 7000), MEMORY),
    "7000² pixels of ink": (lambda: claimed(encoded(Image.new("CMYK", (64, 64)), "JPEG"), 7000, 7000), MEMORY),
    "99 megapixels in an array": (lambda: np.zeros((9900, 10000), np.uint8), PIXELS),
    "99 megapixels in an NPY file": (lambda: npy(np.empty((9900, 10000), np.uint8)), PIXELS),
    "49 megapixels of 16 bits in an array": (lambda: np.empty((7000, 7000, 3), np.uint16), MEMORY),
    "49 megapixels with alpha in an array": (lambda: np.empty((7000, 7000, 4), np.uint8), MEMORY),
}
TAKEN: dict[str, Build] = {
    "a PPM with a highest value of 254": lambda: netpbm(b"P6", 254, (2300, 2300), 3),
    "a PGM with a highest value of 254": lambda: netpbm(b"P5", 254, (3000, 3000), 1),
    "a PPM of 16 bits": lambda: netpbm(b"P6", 65535, (1500, 1500), 6),
    "a JPEG of fill bytes": lambda: after_start(b"\xff", 5_000_000),
    "a JPEG of fill bytes in its scan": lambda: in_scan(b"\xff", 5_000_000),
    "a JPEG of tables in its scan": lambda: in_scan(TABLE, 50_000),
    "a JPEG of restarts": lambda: in_scan(b"\xff\xd0", 10**6),
    "a GIF of stray bytes": lambda: gif_blocks(bytes(5_000_000)),
    "7000² pixels of a palette": lambda: encoded(Image.new("P", (7000, 7000)), "PNG", transparency=0, compress_level=1),
}
