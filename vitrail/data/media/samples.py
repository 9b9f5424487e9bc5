"""Samples of more than 8 bits: scaled to 8, by all of their bits or by a range of values that is stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.media.limits import Broken
from vitrail.data.media.reading import Reading

_SUSPECT = 14  # bits: 16-bit samples that use no more come out at a quarter of the brightness or less
_COMMON = (8, 10, 12, 14)
_STRIP = 2**18  # samples that are scaled at a time
BANDS = "RGBX"  # Pillow's mode for four bands of which none is transparency
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B"}


def to_8_bits(pixels: np.ndarray, reading: Reading, warn: Callable[[str], None], bits: int = 16) -> np.ndarray:
    """Samples of any number as uint8, of the same shape.

    Args:
        bits: that integers without a stated range are taken to have.

    Raises:
        Broken: floating-point, signed or 32-bit samples without a stated range.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if reading.value_range is not None and pixels.dtype.kind in "iuf":
        return _in_range(pixels, *reading.value_range)
    if pixels.dtype.newbyteorder("=") != np.uint16:
        what = "floating-point" if pixels.dtype.kind == "f" else "32-bit or signed"
        raise Broken(
            f"holds {what} pixels, whose range is not stated; convert it to 8 or 16 bits, or state the range, as in "
            "--value-range 0:1 (data.preprocess.reading.value_range)"
        )
    if bits == 16:
        warn_of_few_bits(int(pixels.max(initial=0)), warn)
    return np.right_shift(pixels, max(0, bits - 8), out=np.empty(pixels.shape, np.uint8), casting="unsafe")


def _in_range(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """``low`` as 0 and ``high`` as 255, a few rows at a time."""
    result = np.empty(pixels.shape, np.uint8)
    rows = max(1, _STRIP * len(pixels) // max(pixels.size, 1))
    for start in range(0, len(pixels), rows):
        scaled = (pixels[start : start + rows].astype(np.float64) - low) * (255 / (high - low))
        result[start : start + rows] = np.nan_to_num(np.rint(scaled), nan=0).clip(0, 255)
    return result


def warn_of_few_bits(highest: int, warn: Callable[[str], None]) -> None:
    """Say where 16-bit samples hold values of fewer bits, which come out nearly black."""
    used = next((bits for bits in _COMMON if highest < 1 << bits), 16)
    if highest and used <= _SUSPECT:
        warn(
            f"holds 16-bit samples up to {highest:,} only, which come out dark; if they are of {used} bits, say so "
            f"with --value-range 0:{(1 << used) - 1}"
        )


def load_sixteen(open_image: Callable[[], Image.Image]) -> np.ndarray:
    """uint16 (H, W, C) of an image with 16 bits in several bands, of which Pillow gives the high bytes alone."""
    high, low = open_image(), open_image()
    stored: Any = low  # its tiles are not in Pillow's types
    stored.tile = [tile._replace(args=_other_byte(tile.args)) for tile in stored.tile]
    return np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)


def has_sixteen(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet is stored with 16 bits in each of several colours."""
    tiles = getattr(image, "tile", [])
    return image.mode in ("RGB", "RGBA") and bool(tiles) and ";16" in _raw_mode(tiles[0].args)


def viewable(image: Image.Image) -> Image.Image:
    """A picture to look at or to save: of four bands the first three."""
    return image.convert("RGB") if image.mode == BANDS else image


def storable(image: Image.Image) -> Image.Image:
    """A picture that PNG holds in full: four bands as it holds them, the last one in the place of transparency."""
    return Image.frombytes("RGBA", image.size, image.tobytes()) if image.mode == BANDS else image


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _other_byte(args: object) -> object:
    mode = _raw_mode(args)
    other = mode[:-1] + _OTHER_BYTE[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
