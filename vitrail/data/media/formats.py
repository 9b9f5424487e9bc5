"""The encoded side of an image: which format its bytes are, whether they are complete, and what of them is pixels.

Only what decides the pixels is handed to the decoder: metadata (text, ICC profiles, thumbnails) is cut away, so
that it can neither grow nor mislead.
"""

from __future__ import annotations

import io
import math
import struct
from importlib.util import find_spec

import numpy as np

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".npy"),
    *(".avif", ".dcm", ".dicom", ".heic", ".heif"),
)
REFUSED_SUFFIXES = (".svg", ".svgz", ".eps", ".ps", ".psd", ".pdf", ".ai", ".jp2", ".ico")
TIFF_SUFFIXES = (".tif", ".tiff")
HEIF_SUFFIXES = frozenset((b".heic", b".heif"))  # telephones leave them among JPEGs


def candidate_suffixes() -> frozenset[bytes]:
    """Of the files that count as images in a folder; HEIC is passed over while the extra that reads it is absent."""
    every = frozenset(suffix.encode() for suffix in SUFFIXES + REFUSED_SUFFIXES)
    return every if find_spec("pillow_heif") else every - HEIF_SUFFIXES


_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"P5": "PPM",
    b"P6": "PPM",
    b"\x93NUMPY": "NPY",
}
TIFF_MARKS = tuple(mark for mark, kind in _MAGIC.items() if kind == "TIFF")
_REFUSED = {
    b"%!PS": "a PostScript file",
    b"\xc5\xd0\xd3\xc6": "a PostScript file",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 image",
}
_USUAL = {"JPEG": ".jpg", "TIFF": ".tif", "DICOM": ".dcm"}
_ORIENTATION = 0x0112


def sniff(data: bytes) -> str:
    """The format of the first bytes: JPEG, PNG, GIF, WEBP, BMP, TIFF, PPM, NPY, AVIF, HEIC or DICOM.

    Raises:
        Broken: any other content, named where it is known.
    """
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[4:8] == b"ftyp" and (kind := _brand(data)):
        return kind
    if not data:
        raise Broken("is empty (0 bytes)")
    read = "JPEG, PNG, WebP, GIF, TIFF, BMP, PPM, NPY, AVIF, HEIC, DICOM"
    raise Broken(f"is {_what_else(data)}, not one of the formats read here ({read})")


def suffix_of(data: bytes) -> str:
    """The usual suffix of a file of these first bytes, as ``.jpg``. Raises as :func:`sniff`."""
    kind = sniff(data)
    return _USUAL.get(kind, f".{kind.lower()}")


def _brand(data: bytes) -> str | None:
    """AVIF or HEIC, by the brands of an ISO media file."""
    length = min(int.from_bytes(data[:4], "big"), 512)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, length - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"} else None


def _what_else(data: bytes) -> str:
    for magic, name in _REFUSED.items():
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a film or a HEIF file of another kind"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    return "no image"


def webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a WebP, from its header.

    Raises:
        Broken: no such header, or too many chunks.
    """
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    position, number, most = 12, 0, limits.SEGMENTS.value
    while position + 8 <= len(data):
        number += 1
        if number > most:
            limits.check_segments(number, "chunks")
        position += 8 + (int.from_bytes(data[position + 4 : position + 8], "little") + 1) // 2 * 2
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise Broken("is a damaged WebP: no image header")


def npy_pixels(data: bytes) -> np.ndarray:
    """The array of a ``.npy`` file, without copying it.

    Raises:
        Broken: no plain array, or another number of bytes than its shape needs.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = read_header[version](file)
    except (ValueError, KeyError):
        raise Broken("is a damaged NPY file: no valid header") from None
    if dtype.hasobject:
        raise Broken("is an array of Python objects; pixels are wanted")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise Broken(f"is cut short: {len(data) - file.tell():,} bytes for an array of shape {shape}")
    pixels = np.frombuffer(data, dtype, offset=file.tell())
    return pixels.reshape(shape, order="F" if fortran_order else "C")


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8, of a block that begins with its TIFF header; 1 where none is given.

    Raises:
        Broken: the block is no valid EXIF.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            raise Broken("no TIFF header")
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (num_entries,) = struct.unpack_from(order + "H", exif, offset)
        for entry in range(num_entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, offset + 2 + 12 * entry)
            if tag == _ORIENTATION:
                if kind != 3 or count != 1 or not 1 <= value <= 8:
                    raise Broken(f"orientation {value}")
                return int(value)
    except struct.error:
        raise Broken("entries beyond its end") from None
    return 1
