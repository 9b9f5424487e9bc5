"""What an image file holds before anything is made 8 bits of it: bands, bits, and the range of its values."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

PLAIN = ("L", "RGB")
"""Modes that are read as they are."""
_BITS = {"1": "1 bit", "I;16": "16 bits", "I;16B": "16 bits", "I;16L": "16 bits", "I": "32 bits", "F": "fractions"}
_BITS_PER_SAMPLE = 258
_NAMES = {"P": "a palette", "RGBA": "RGB and transparency", "LA": "grey and transparency", "CMYK": "CMYK"}


def in_words(data: bytes | np.ndarray) -> str:
    """Such as "RGB", "16 bits, values to 4095" or "4 bands of 16 bits"; of one kind the same words.

    Args:
        data: a file that could be decoded, or pixels.
    """
    if isinstance(data, np.ndarray):
        bands = 1 if data.ndim == 2 else data.shape[2]
        return _of_bands(bands, 8 * data.dtype.itemsize)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, tags = image.mode, getattr(image, "tag_v2", {})
            bits = tags.get(_BITS_PER_SAMPLE)
            if mode in PLAIN and (bits is None or max(bits) == 8):
                return mode
            if mode in _NAMES:
                return _NAMES[mode]
            if mode.startswith("I"):
                return f"{_BITS[mode]}, values to {_power(int(np.asarray(image).max()))}"
            return _BITS.get(mode, mode)
    except Exception:  # what Pillow cannot open, another decoder did
        return "another format"


def _of_bands(bands: int, bits: int) -> str:
    if bits == 8 and bands in (1, 3):
        return "L" if bands == 1 else "RGB"
    return f"{bands} band{'' if bands == 1 else 's'} of {bits} bits"


def _power(value: int) -> int:
    """The highest number of as many bits."""
    return (1 << max(value, 1).bit_length()) - 1
