"""What counts as an image wherever one is given: a path, bytes, a Pillow image, an array, a tensor, or a sample."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitrail.console import printable
from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage, bad, decode
from vitrail.data.media.limits import Broken
from vitrail.data.media.read import read_regular
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.windows import WindowedTiff, open_windows
from vitrail.data.transforms.preprocess import Picture
from vitrail.errors import UserError


@dataclass(frozen=True)
class Sample:
    """An image that is read later, by a function, as from a data source."""

    name: str
    read: Callable[[], bytes | NDArray[Any]]


ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | Tensor | Sample
"""A file, its bytes, a Pillow image, pixels uint8 (H, W) or (H, W, C), a uint8 tensor (C, H, W), or a sample."""


def name_of(image: ImageLike) -> str:
    """What to call an image in messages."""
    if isinstance(image, Sample):
        return image.name
    return printable(str(image)) if isinstance(image, str | Path) else f"the {type(image).__name__} given"


def open_image(image: ImageLike, channels: int, smallest: int | None = None, reading: Reading = DEFAULT) -> Picture:
    """The decoded image.

    Args:
        channels: of the picture to return.
        smallest: decode a larger JPEG at a half, a quarter or an eighth of its size, with sides of at least this many
            pixels; None: in full.
        reading: the range of values of more than 8 bits, and the page.

    Raises:
        UserError: it cannot be read, with its name.
    """
    try:
        return decode(contents(image), channels, smallest=smallest, reading=reading)
    except BadImage as error:
        raise error.named(name_of(image)) from None
    except OSError as error:  # a Pillow image loads its file only now
        raise UserError(f"{name_of(image)} is damaged: {error}; repair or remove it") from None


def windows_of(image: ImageLike, channels: int, reading: Reading) -> WindowedTiff | None:
    """A TIFF file that is too large to be decoded at once; None: any other image.

    Raises:
        UserError: it cannot be read so, with its name.
    """
    if not isinstance(image, str | Path):
        return None
    try:
        return open_windows(image, channels, reading)
    except BadImage as error:
        raise error.named(name_of(image)) from None


def contents(image: ImageLike) -> bytes | NDArray[Any]:
    """The bytes of a file, or pixels.

    Raises:
        UserError: it is no image, or one of more pixels than it may have.
    """
    if isinstance(image, str | Path):
        return read_regular(image)
    if isinstance(image, Image.Image):
        try:
            limits.check_pixels(image.size)
        except Broken as error:
            raise bad(error) from None
        return _encoded(image) if image.mode not in ("L", "RGB") or image.getexif() else np.asarray(image)
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise UserError(
                f"a tensor of shape {tuple(image.shape)} is no image; give uint8 (C, H, W), or a list of them"
            )
        return image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, Sample):
        return image.read()
    if isinstance(image, bytes | np.ndarray):
        return image
    raise UserError(f"{type(image).__name__} is no image; give a path, a Pillow image, an array or a tensor")


def _encoded(image: Image.Image) -> bytes:
    """A Pillow image as a lossless file, so that palettes, transparency and orientation are handled in one place."""
    buffer = io.BytesIO()
    kind = "TIFF" if image.mode in ("CMYK", "F", "YCbCr", "LAB") else "PNG"
    image.save(buffer, kind, compress_level=1, exif=image.getexif())
    return buffer.getvalue()
