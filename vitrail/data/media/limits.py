"""What an image may cost: one number for each limit, which an environment variable changes.

The variables reach every process that decodes: the loader's workers, the server's, and those of other verbs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from vitrail.errors import UserError


class Broken(ValueError):
    """The bytes are not a complete, valid file of their format; the message describes why."""


class TooLarge(Broken):
    """The image has more pixels than it may, or needs more memory."""


@dataclass(frozen=True)
class Limit:
    """A number that no image may exceed.

    Attributes:
        grows: unless it is stated, it is as many times larger as the limit of pixels is raised.
        option: of the command line, which sets the variable.
    """

    variable: str
    default: int
    grows: bool = False
    option: str = ""

    @property
    def value(self) -> int:
        """The number in force.

        Raises:
            UserError: the environment variable holds no positive integer.
        """
        text = os.environ.get(self.variable)
        if not text:
            return self.default * max(PIXELS.value, PIXELS.default) // PIXELS.default if self.grows else self.default
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not int(text):
            raise UserError(f"{self.variable}={text!r} is no limit; give a positive integer, such as {self.default}")
        return int(text)

    def __str__(self) -> str:
        return f"the limit of {self.value:,} ({self.variable})"


BYTES = Limit("VITRAIL_MAX_IMAGE_BYTES", 100_000_000, grows=True)
"""Of a file, packed or unpacked."""
PIXELS = Limit("VITRAIL_MAX_PIXELS", 50_000_000, option="--max-pixels")
MEMORY = Limit("VITRAIL_MAX_IMAGE_MEMORY", 300_000_000, grows=True)
"""Bytes that decoding takes at once: the file, the decoder's own buffers, the pixels as stored and as wanted."""
SEGMENTS = Limit("VITRAIL_MAX_IMAGE_SEGMENTS", 20_000)
"""Of a JPEG, chunks of a PNG or WebP, blocks of a GIF, strips, tiles and tags of a TIFF."""
PASSES = Limit("VITRAIL_MAX_IMAGE_PASSES", 400_000_000)
"""Pixels times scans of a JPEG: a progressive one is gone over once for each scan."""
ANNOTATION_BYTES = Limit("VITRAIL_MAX_ANNOTATION_BYTES", 500_000_000)
"""Of a file of annotations, a table or a list."""
CONTAINERS = Limit("VITRAIL_MAX_JSON_CONTAINERS", 5_000_000)
"""Lists and mappings in a JSON file of annotations, each of which takes far more memory than text."""
MASK_BYTES = Limit("VITRAIL_MAX_MASK_BYTES", 4_000_000_000)
"""Of all masks of an image: its objects times its pixels."""


def check_pixels(size: tuple[int, int], most: int | None = None) -> None:
    """(width, height) from a header, before any pixel is allocated.

    Args:
        most: pixels, where another limit than the usual one holds.

    Raises:
        TooLarge: there are more.
        Broken: there are none.
    """
    width, height = size
    if width < 1 or height < 1:
        raise Broken(f"has no pixels ({width} × {height})")
    if width * height > (PIXELS.value if most is None else most):
        limit = str(PIXELS) if most is None else f"the limit of {most:,}"
        raise TooLarge(
            f"has {width} × {height} pixels, more than {limit}; make it smaller, or allow them with "
            f"{PIXELS.option} {width * height}"
        )


def check_memory(size: tuple[int, int], needed: int) -> None:
    """What decoding an image of (width, height) takes, in bytes.

    Raises:
        TooLarge: it is more than the limit.
    """
    if needed > MEMORY.value:
        raise TooLarge(
            f"needs about {needed // 10**6:,} MB for its {size[0]} × {size[1]} pixels, more than {MEMORY}; shrink it"
        )


def check_segments(number: int, what: str) -> None:
    """The parts of a file that a decoder goes through one by one, in Python or with work for each.

    Raises:
        Broken: there are more than the limit.
    """
    if number > SEGMENTS.value:
        raise Broken(f"has more {what} than {SEGMENTS}; save it again")
