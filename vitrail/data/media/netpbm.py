"""PGM and PPM with binary samples, of any highest value."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from vitrail.data.media.limits import Broken

_MAX_HEADER = 4096
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([56])" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,5})\s")
_STRIP = 2**20  # samples that are scaled at a time


class Header(NamedTuple):
    """``maxval`` is the value of white; samples begin at ``begin``."""

    width: int
    height: int
    channels: int
    maxval: int
    begin: int


def header(data: bytes) -> Header:
    """What a file begins with.

    Raises:
        Broken: no such header within the first 4 kB.
    """
    found = _HEADER.match(data[:_MAX_HEADER])
    if found is None:
        raise Broken("is a damaged PGM or PPM: no valid header")
    kind, width, height, maxval = map(int, found.groups())
    if not 0 < maxval < 65536:
        raise Broken(f"is a damaged PGM or PPM: its highest value is {maxval}")
    return Header(width, height, 3 if kind == 6 else 1, maxval, found.end())


def pixels(data: bytes, head: Header) -> np.ndarray:
    """uint8 (H, W, C), scaled to 255; of more than 8 bits the high byte of 16.

    Raises:
        Broken: the file ends early.
    """
    wide = head.maxval > 255
    count = head.width * head.height * head.channels
    if len(data) - head.begin < count * (1 + wide):
        raise Broken(f"is cut short: {len(data) - head.begin:,} bytes for {head.width} × {head.height} pixels")
    samples = np.frombuffer(data, ">u2" if wide else np.uint8, count, head.begin)
    if head.maxval != 255:
        levels = np.minimum(np.arange(65536 if wide else 256), head.maxval) / head.maxval
        table = (np.round(levels * 65535).astype(np.int64) >> 8 if wide else np.round(levels * 255)).astype(np.uint8)
        scaled = np.empty(count, np.uint8)
        for start in range(0, count, _STRIP):
            part = slice(start, start + _STRIP)
            scaled[part] = table[samples[part]]
        samples = scaled
    return samples.reshape(head.height, head.width, head.channels)
