"""The first directory of a TIFF: whether its entries lie in the file, and how many parts the picture has."""

from __future__ import annotations

import struct

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OPAQUE = (1, 2, 6, 7)  # bytes and text, which nobody takes apart


def gate(data: bytes) -> bool:
    """Whether a second page follows the first.

    Raises:
        Broken: no directory, or one whose entries are too many or beyond the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (number,) = struct.unpack_from(order + "H", data, start)
        entries = list(struct.iter_unpack(order + "HHII", data[start + 2 : start + 2 + 12 * number]))
        if len(entries) < number:
            raise Broken("is cut short: the TIFF ends in its directory")
    except struct.error:
        raise Broken("is cut short: the TIFF has no directory") from None
    limits.check_segments(number, "tags")
    total = 0
    for _, kind, count, offset in entries:
        size = count * _BYTES.get(kind, 1)
        if kind not in _OPAQUE:
            limits.check_segments(count, "strips, tiles or values of a tag")
        if size > 4:
            total += size
            if offset + size > len(data):
                raise Broken("is cut short: the TIFF has tags beyond its end")
    if total > len(data):
        raise Broken("is damaged: the TIFF's tags are longer than the file")
    following = data[start + 2 + 12 * number : start + 6 + 12 * number]
    return int.from_bytes(following, "little" if order == "<" else "big") != 0
