"""The chunks of a PNG: which of them decide pixels, and whether the file is complete."""

from __future__ import annotations

import struct
import zlib

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_MAX_DEFLATE_RATIO = 1032
_SIZE = struct.Struct(">I4s")
_CHECKSUM = struct.Struct(">I")
_FIRST = 25  # bytes of the header with its length, kind and checksum
_KEPT = (b"IDAT", b"IHDR", b"PLTE", b"tRNS", b"IEND")


def gate(data: bytes) -> tuple[bytes, bytes]:
    """(the PNG's first picture without metadata, its EXIF block or b"").

    Raises:
        Broken: cut short, a wrong checksum, too many chunks, or too little data for the size that the header claims.
    """
    view, size, most = memoryview(data), len(data), limits.SEGMENTS.value
    position, exif, num_data, number, transparent = 8, b"", 0, 0, False
    parts, begin = [], 0  # of the file, between what is left out; most files are kept as they are
    kind = b""
    while kind != b"IEND":
        length, kind = _SIZE.unpack_from(data, position) if position + 8 <= size else (size, b"")
        end = position + 12 + length
        if end > size:
            raise Broken("is cut short: the PNG ends before its end mark")
        number += 1
        if number > most:
            limits.check_segments(number, "chunks")
        # The decoder looks at one checksum of the pixels, and not where they end late.
        if zlib.crc32(view[position + 4 : end - 4]) != _CHECKSUM.unpack_from(data, end - 4)[0]:
            raise Broken(f"is damaged: wrong checksum in the PNG's {kind.decode('latin-1')} chunk")
        if kind == b"IDAT":
            num_data += length
        elif kind == b"tRNS":
            transparent = True
        elif kind not in _KEPT:
            parts.append(view[begin:position])
            begin = end
            if kind == b"eXIf":
                exif = data[position + 8 : end - 4]
        position = end
    parts.append(view[begin:position])
    whole = data if len(parts[0]) == size else b"".join(parts)
    _check_header(whole[8 : 8 + _FIRST], num_data, transparent)
    return whole, exif


def header(data: bytes) -> tuple[tuple[int, int], bytes]:
    """((width, height), the EXIF block before the pixels or b"") of a file that may end after them.

    Raises:
        Broken: it ends before them, or has too many chunks.
    """
    position, exif, number = 8, b"", 0
    while (kind := data[position + 4 : position + 8]) != b"IDAT":
        number += 1
        limits.check_segments(number, "chunks")
        if len(kind) < 4:
            raise Broken("is cut short: the PNG ends before its pixels")
        length = int.from_bytes(data[position : position + 4], "big")
        if kind == b"eXIf":
            exif = data[position + 8 : position + 8 + length]
        position += 12 + length
    if data[12:16] != b"IHDR":
        raise Broken("is damaged: the PNG does not begin with its header")
    width, height = struct.unpack(">II", data[16:24])
    return (width, height), exif


def _check_header(chunk: bytes, num_data: int, transparent: bool) -> None:
    if chunk[4:8] != b"IHDR" or not chunk.startswith(b"\0\0\0\r"):
        raise Broken("is damaged: the PNG does not begin with its header")
    width, height, depth, color = struct.unpack(">IIBB", chunk[8:18])
    if depth == 16 and transparent:
        raise Broken("marks a 16-bit colour as transparent, which is not supported; give it an alpha channel")
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    if num_data * _MAX_DEFLATE_RATIO < height * (1 + width * bits // 8) // 2:
        raise Broken(f"is cut short: {num_data:,} bytes of data for {width} × {height} pixels")
