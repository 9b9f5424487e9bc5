"""Images whose pixels are numbers or colours of classes, in any format that holds pictures."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitrail.data.media.decode import MAX_PIXELS, BadImage
from vitrail.data.media.formats import Broken, jpeg_pixels, npy_pixels, png_pixels, sniff

VOID = 255
_LOSSY = ("JPEG", "WEBP")
_VOID_16 = 65535


class LabelImage(NamedTuple):
    """What is stored for each pixel."""

    numbers: np.ndarray | None
    """uint8 (H, W): grey levels or places in a palette; None where there are colours alone."""
    colours: np.ndarray | None
    """uint8 (H, W, 3), of a palette too; None where there are grey levels alone."""
    lossy: bool
    """The format changes values a little."""
    mode: str = "L"
    """As Pillow calls what is stored; with ``RGB`` and the like numbers are greys that are written as colours."""


def decode_label(data: bytes, *, max_pixels: int = MAX_PIXELS) -> LabelImage:
    """The numbers or colours of a file.

    Raises:
        BadImage: it is damaged, or has numbers that no class can have; the cause, without its name.
    """
    try:
        kind = sniff(data)
        if kind == "NPY":
            pixels = npy_pixels(data)
            return LabelImage(_numbers(pixels.squeeze()), None, False)
        if kind == "PNG":
            data = png_pixels(data)[0]
        elif kind == "JPEG":
            data = jpeg_pixels(data)[0]
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.width * image.height > max_pixels:
                raise Broken(f"has {image.width} × {image.height} pixels, more than the limit of {max_pixels:,}")
            image.load()
            return _split(image, kind in _LOSSY)
    except BadImage:
        raise
    except Broken as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # hostile bytes make decoders fail in every way there is
        raise BadImage(f"is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _split(image: Image.Image, lossy: bool) -> LabelImage:
    if image.mode == "P":
        return LabelImage(np.array(image).astype(np.uint8), np.array(image.convert("RGB")), lossy)
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return LabelImage(_numbers(np.array(image)), None, lossy)
    if image.mode == "LA":
        return LabelImage(np.array(image)[..., 0], None, lossy)
    pixels = np.array(image.convert("RGB"))
    if (pixels[..., :1] == pixels).all():
        return LabelImage(pixels[..., 0], None, lossy, image.mode)
    return LabelImage(None, pixels, lossy, image.mode)


def _numbers(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W) from any type of whole numbers."""
    if pixels.ndim != 2:
        raise Broken(f"is an array of shape {pixels.shape}; a number a pixel is wanted")
    if pixels.dtype.kind == "f":
        if not (np.isfinite(pixels) & (pixels == np.round(pixels))).all():
            raise Broken("holds fractions, where a number of a class a pixel is wanted")
        pixels = pixels.astype(np.int64)
    if pixels.dtype != np.uint8:
        pixels = np.where((pixels == _VOID_16) | (pixels == -1), VOID, pixels)
        if pixels.size and (pixels.min() < 0 or pixels.max() > VOID):
            raise Broken(f"has the number {int(pixels.max())}, where classes go from 0 to {VOID - 1}")
    return pixels.astype(np.uint8)
