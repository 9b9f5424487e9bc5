"""The directories of a TIFF: whether their entries lie in the file, and how many parts a picture has."""

from __future__ import annotations

import mmap
import struct

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OPAQUE = (1, 2, 6, 7)  # bytes and text, which nobody takes apart


def gate(data: bytes | mmap.mmap, page: int = 0) -> None:
    """Check the directories up to that of a page.

    Raises:
        Broken: there is none, or one whose entries are too many or beyond the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word = order + ("Q" if big else "I")
    try:
        (start,) = struct.unpack_from(word, data, 8 if big else 4)
        seen: set[int] = set()
        while start and start not in seen and len(seen) <= page:
            seen.add(start)
            limits.check_segments(len(seen), "pages")
            end = _check(data, start, order, big)
            (start,) = struct.unpack_from(word, data, end) if end + struct.calcsize(word) <= len(data) else (0,)
    except struct.error:
        raise Broken("is cut short: the TIFF has no directory") from None


def _check(data: bytes | mmap.mmap, start: int, order: str, big: bool) -> int:
    """Where the directory's entries end."""
    if start >= len(data):  # in a BigTIFF also beyond what an index may be
        raise Broken("is cut short: the TIFF has no directory")
    (number,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    limits.check_segments(number, "tags")
    first, entry = start + (8 if big else 2), order + ("HHQQ" if big else "HHII")
    end = first + number * struct.calcsize(entry)
    if end > len(data):
        raise Broken("is cut short: the TIFF ends in its directory")
    total = 0
    for _, kind, count, offset in struct.iter_unpack(entry, data[first:end]):
        size = count * _BYTES.get(kind, 1)
        if kind not in _OPAQUE:
            limits.check_segments(count, "strips, tiles or values of a tag")
        if size > (8 if big else 4):
            total += size
            if offset + size > len(data):
                raise Broken("is cut short: the TIFF has tags beyond its end")
    if total > len(data):
        raise Broken("is damaged: the TIFF's tags are longer than the file")
    return end
