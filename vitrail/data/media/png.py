"""The chunks of a PNG: which of them decide pixels, and whether the file is complete."""

from __future__ import annotations

import struct
import zlib

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_MAX_DEFLATE_RATIO = 1032


def gate(data: bytes) -> tuple[bytes, bytes]:
    """(the PNG's first picture without metadata, its EXIF block or b"").

    Raises:
        Broken: cut short, a wrong checksum, too many chunks, or too little data for the size that the header claims.
    """
    position, exif, num_data = 8, b"", 0
    header = b""
    view = memoryview(data)
    kept = [view[:8]]  # without copies: most files keep all
    number, most = 0, limits.SEGMENTS.value
    while header != b"IEND":
        length, header = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        end = position + 12 + length
        if end > len(data):
            raise Broken("is cut short: the PNG ends before its end mark")
        number += 1
        if number > most:
            limits.check_segments(number, "chunks")
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise Broken(f"is damaged: wrong checksum in the PNG's {header.decode('latin-1')} chunk")
        if header in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(view[position:end])
            num_data += length if header == b"IDAT" else 0
        elif header == b"eXIf":
            exif = data[position + 8 : end - 4]
        position = end
    _check_header(bytes(kept[1]), num_data, any(chunk[4:8] == b"tRNS" for chunk in kept))
    return data if sum(map(len, kept)) == len(data) else b"".join(kept), exif


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
    if chunk[4:8] != b"IHDR" or len(chunk) != 25:
        raise Broken("is damaged: the PNG does not begin with its header")
    width, height, depth, color = struct.unpack(">IIBB", chunk[8:18])
    if depth == 16 and transparent:
        raise Broken("marks a 16-bit colour as transparent, which is not supported; give it an alpha channel")
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    if num_data * _MAX_DEFLATE_RATIO < height * (1 + width * bits // 8) // 2:
        raise Broken(f"is cut short: {num_data:,} bytes of data for {width} × {height} pixels")
