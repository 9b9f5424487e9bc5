"""The segments of a JPEG: which of them decide pixels, and what decoding them will cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitrail.data.media import limits
from vitrail.data.media.limits import Broken

_FILL = re.compile(rb"\xff*")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # headers that state a size
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LEAST = 4096  # pixels that a scan costs at the least


@dataclass(frozen=True)
class Jpeg:
    """A JPEG whose segments were counted.

    Attributes:
        data: the file without metadata.
        exif: its EXIF block, or ``b""``.
        adobe: whether an Adobe marker is there.
        scans: how often its image data goes over the pixels, at most.
        coefficients: bytes for each pixel that a decoder holds until the last scan; 0 where there is only one.
    """

    data: bytes
    exif: bytes
    adobe: bool
    scans: int
    coefficients: float

    def check_passes(self, size: tuple[int, int]) -> None:
        """Is decoding (width, height) pixels in so many scans a matter of seconds at most?

        Raises:
            Broken: it is not.
        """
        passes = max(size[0] * size[1], _LEAST) * self.scans
        if self.scans > 1 and passes > limits.PASSES.value:
            raise Broken(
                f"has {self.scans:,} scans of {size[0]} × {size[1]} pixels, {passes:,} passes and so more than "
                f"{limits.PASSES}; save it again"
            )


def gate(data: bytes, *, complete: bool = True) -> Jpeg:
    """Walk the segments before the image data; metadata (text, profiles, thumbnails) is left out.

    Args:
        complete: the end of the file must be there.

    Raises:
        Broken: damaged headers, too many segments, no image data, or no end marker after the image data.
    """
    position, kept, exif, adobe = 2, [b"\xff\xd8"], b"", False
    stripped, number, frame, marker = False, 0, b"", 0
    most = limits.SEGMENTS.value
    while True:
        if data[position : position + 2] == b"\xff\xff":  # fill bytes before a marker
            filled = _FILL.match(data, position)
            assert filled is not None
            position, stripped = filled.end() - 1, True
        header = data[position : position + 4]
        if len(header) < 4:
            raise Broken("is cut short: the JPEG has no image data")
        if header[0] != 0xFF:
            raise Broken("is a damaged JPEG: no marker where one must be")
        kind, length = header[1], int.from_bytes(header[2:], "big")
        if kind == 0xDA:
            break
        if kind == 0xD9:
            raise Broken("is a JPEG without image data")
        number += 1
        if number > most:
            limits.check_segments(number, "segments")
        segment = data[position : position + 2 + length]
        position += 2 + length
        if kind == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[10:]
        adobe |= kind == 0xEE and segment[4:9] == b"Adobe"
        if 0xE1 <= kind <= 0xED or kind in (0xEF, 0xFE):  # APP1-13, APP15, comment
            stripped = True
        else:
            kept.append(segment)
            if kind in _FRAMES:
                frame, marker = segment, kind
    if complete and not data.endswith(b"\xff\xd9") and data.find(b"\xff\xd9", position) < 0:
        raise Broken("is cut short: the JPEG ends in the middle of the image")
    scans, coefficients = 1, 0.0
    if marker in _PROGRESSIVE or data[position + 4 : position + 5] < frame[9:10]:  # fewer components than there are
        scans, coefficients = data.count(b"\xff\xda", position), _coefficients(frame)
    if stripped:
        data = b"".join([*kept, memoryview(data)[position:]])
    return Jpeg(data, exif, adobe, scans, coefficients)


def _coefficients(frame: bytes) -> float:
    """Bytes of all coefficients for each pixel, by the sampling factors in the header of a frame."""
    factors = [(each >> 4) * (each & 15) for each in frame[11::3]]
    return 2 * sum(factors) / max(*factors, 1) if factors else 0.0
