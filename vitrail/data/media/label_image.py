"""Images whose pixels are numbers or colours of classes, in any format that holds pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from vitrail.data.media import gif, jpeg, limits, netpbm, plugins, png, tiff_gate
from vitrail.data.media.decode import bad
from vitrail.data.media.formats import npy_pixels, sniff, webp_size
from vitrail.data.media.limits import Broken
from vitrail.errors import UserError

VOID = 255
_LOSSY = ("JPEG", "WEBP")
_VOID_16 = 65535
_COPIES = 6  # bytes a pixel: as it is stored, and its colours


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


def decode_label(data: bytes, *, max_pixels: int | None = None) -> LabelImage:
    """The numbers or colours of a file.

    Raises:
        BadImage: it is damaged, or has numbers that no class can have; the cause, without its name.
    """
    try:
        kind = sniff(data)
        if kind == "NPY":
            pixels = npy_pixels(data)
            limits.check_pixels((pixels.shape[-1], pixels.size // max(pixels.shape[-1], 1)), max_pixels)
            return LabelImage(numbers_of(pixels.squeeze()), None, False)
        if kind == "PPM":
            head = netpbm.header(data)
            _check((head.width, head.height), max_pixels)
            return _split(Image.fromarray(netpbm.pixels(data, head).squeeze()), False)
        if kind == "DICOM":
            raise Broken("is DICOM, and a number of a class a pixel is wanted; write it as PNG")
        image = plugins.opened(kind, _gated(kind, data))
        _check(image.size, max_pixels)
        if slow := [tile[0] for tile in getattr(image, "tile", ()) if tile[0] in Image.DECODERS]:
            raise Broken(f"is packed in a way that is read too slowly ({slow[0]}); save it as PNG")
        image.load()
        return _split(image, kind in _LOSSY)
    except UserError:
        raise
    except Exception as error:  # hostile bytes make decoders fail in every way there is
        raise bad(error) from None


def _gated(kind: str, data: bytes) -> bytes:
    """What of a file is its picture."""
    if kind == "PNG":
        return png.gate(data)[0]
    if kind == "JPEG":
        return jpeg.gate(data).data
    if kind == "GIF":
        return gif.gate(data)
    if kind == "TIFF":
        tiff_gate.gate(data)
    elif kind == "WEBP":
        limits.check_pixels(webp_size(data))
    return data


def _check(size: tuple[int, int], max_pixels: int | None) -> None:
    limits.check_pixels(size, max_pixels)
    limits.check_memory(size, _COPIES * size[0] * size[1])


def _split(image: Image.Image, lossy: bool) -> LabelImage:
    if image.mode == "P":
        return LabelImage(np.array(image).astype(np.uint8), np.array(image.convert("RGB")), lossy)
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return LabelImage(numbers_of(np.array(image)), None, lossy)
    if image.mode == "LA":
        return LabelImage(np.array(image)[..., 0], None, lossy)
    pixels = np.array(image.convert("RGB"))
    if (pixels[..., :1] == pixels).all():
        return LabelImage(pixels[..., 0], None, lossy, image.mode)
    return LabelImage(None, pixels, lossy, image.mode)


def numbers_of(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W) from any type of whole numbers, where 65535 and -1 are 255.

    Raises:
        Broken: other numbers, or fractions.
    """
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
