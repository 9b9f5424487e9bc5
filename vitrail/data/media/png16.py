"""PNG files with 16 bits a sample, of grey levels or colours, with or without transparency, and ICC profiles."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of samples a pixel
LARGEST_PROFILE = 1 << 22  # bytes
UP = 2  # the filter that stores the difference to the row above


def encoded(levels: NDArray[np.uint16], profile: bytes | None = None) -> bytes:
    """uint16 (H, W, C), 1 to 4 samples a pixel, as a PNG file (PNG specification, 3rd edition, sections 9 to 11).

    Args:
        profile: an ICC profile to embed.
    """
    height, width, samples = levels.shape
    rows = levels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[samples], 0, 0, 0))]
    if profile is not None:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    chunks += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)), _chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def profile_of(data: bytes) -> bytes | None:
    """The ICC profile that a PNG file embeds; None where there is none, or a damaged or endless one."""
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        if name in (b"IDAT", b"IEND"):
            return None
        if name == b"iCCP":
            _, _, packed = data[place + 8 : place + 8 + length].partition(b"\0")
            unpacking = zlib.decompressobj()
            try:
                found = unpacking.decompress(packed[1:], LARGEST_PROFILE)
            except zlib.error:
                return None
            return found if unpacking.eof else None
        place += 12 + length
    return None


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
