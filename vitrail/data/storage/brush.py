"""Masks as Label Studio's brush stores them: a picture RGBA, row by row, as packed runs of values (thi.ng/rle-pack).

Bits from the highest on: 32 for the number of values, 5 for the bits of a value less one, and four times 4 for the bits
of a length less one. Then runs: a bit that tells whether one value is repeated or each is written, two bits that choose
one of the four lengths, the run's length less one, and its value or values.
"""

from __future__ import annotations

import numpy as np

_OPAQUE = 128  # from here on a pixel is in the stroke


def brush_mask(packed: object, size: tuple[int, int]) -> np.ndarray:
    """The pixels that a stroke covers, bool (H, W).

    Args:
        packed: the bytes, as a list of numbers.
        size: (height, width) of the picture.

    Raises:
        ValueError: no such bytes, or another number of pixels.
    """
    if not isinstance(packed, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in packed):
        raise ValueError("no list of bytes")
    bits = _Bits(bytes(packed))
    number, wanted = bits.read(32), 4 * size[0] * size[1]
    if number != wanted:
        raise ValueError(f"{number // 4:,} pixels for {size[1]} × {size[0]}")
    word, lengths = bits.read(5) + 1, [bits.read(4) + 1 for _ in range(4)]
    values, at = np.zeros(number, np.uint8), 0
    while at < number:
        repeated = bits.read(1)
        count = bits.read(lengths[bits.read(2)]) + 1
        if at + count > number:
            raise ValueError("runs beyond the picture")
        values[at : at + count] = bits.words(1 if repeated else count, word)
        at += count
    return values.reshape(*size, 4)[..., 3] >= _OPAQUE


class _Bits:
    """Numbers out of bytes, from the highest bit on."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        """The next number of so many bits. Raises ValueError beyond the end."""
        end = self._at + count
        if end > 8 * len(self._data):
            raise ValueError("runs that end early")
        whole = int.from_bytes(self._data[self._at // 8 : (end + 7) // 8], "big")
        self._at = end
        return whole >> (-end % 8) & ((1 << count) - 1)

    def words(self, number: int, count: int) -> np.ndarray:
        """The lowest 8 bits of so many numbers of ``count`` bits each, uint8. Raises as :meth:`read`."""
        start, end = self._at, self._at + number * count
        if end > 8 * len(self._data):
            raise ValueError("runs that end early")
        bits = np.unpackbits(np.frombuffer(self._data[start // 8 : (end + 7) // 8], np.uint8))
        self._at = end
        rows = bits[start % 8 : start % 8 + number * count].reshape(number, count)[:, -8:]
        return np.packbits(np.pad(rows, ((0, 0), (8 - rows.shape[1], 0))), axis=1)[:, 0]
