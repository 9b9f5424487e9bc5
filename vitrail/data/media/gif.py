"""The blocks of a GIF before its first picture, which are all that is needed of them."""

from __future__ import annotations

import re

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_STRAY = re.compile(rb"[^,!;]*")  # between blocks, as decoders skip it
_CONTROL = 0xF9  # transparency and the like of the picture that follows


def gate(data: bytes) -> bytes:
    """The file from its header to its first picture, without comments and the like between them.

    Raises:
        Broken: cut short, no picture, or too many blocks before it.
    """
    if len(data) < 13:
        raise Broken("is cut short: the GIF ends in its header")
    begin = position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
    control, number = b"", 0
    while True:
        stray = _STRAY.match(data, position)
        position = len(data) if stray is None else stray.end()
        kind = data[position : position + 1]
        if kind == b",":
            return b"".join([data[:begin], control, memoryview(data)[position:]])
        if kind != b"!":
            raise Broken("is damaged: the GIF has no picture")
        start, position = position, position + 2
        while True:
            number += 1
            limits.check_segments(number, "blocks")
            if position >= len(data):
                raise Broken("is damaged: the GIF ends before its picture")
            length = data[position]
            position += 1 + length
            if not length:
                break
        if data[start + 1 : start + 2] == bytes([_CONTROL]):
            control = data[start:position]
