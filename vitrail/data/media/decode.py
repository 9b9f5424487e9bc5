"""From the bytes or the array of one sample to an image: one policy for every place that reads images.

Formats are allow-listed by content. Size and completeness are checked before any pixel is allocated. Pixels come
out as 8 bits: 16-bit samples keep their high byte, transparency is composited on ``background``, CMYK becomes
(255 - ink)(255 - black) / 255 with embedded ICC profiles ignored, EXIF orientation is applied, and of several
frames or pages the first is taken. Flipped bits inside a JPEG's image data cannot be detected and pass.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vitrail import console
from vitrail.data.media.formats import (
    Broken,
    jpeg_pixels,
    npy_pixels,
    orientation,
    png_pixels,
    sniff,
    webp_size,
)
from vitrail.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 50_000_000
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs about a bad file, it raises too
Warn = Callable[[str], None]
Color = tuple[int, int, int]
Sufficient = Callable[[tuple[int, int]], int | None]
"""How long the sides of an image of this (height, width) need be; None: as long as they are."""

_PLUGINS: dict[str, Callable[..., Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # orientations whose sides are swapped
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class BadImage(UserError):
    """A sample that is no usable image. The message is the cause alone, as in "is empty (0 bytes)"."""

    def __init__(self, cause: str) -> None:
        super().__init__(console.printable(cause))

    def named(self, name: str) -> UserError:
        """The one-line error for users: which image, why, and what to do."""
        return UserError(f"{name} {self}; repair or remove it")


class TooManyPixels(BadImage):
    """It has more pixels than it may; none of them was decoded."""


@functools.cache
def _warn_once(text: str) -> None:
    console.warn(f"an image {text} (`vitrail data check` names each)")


def decode(
    data: bytes | np.ndarray,
    channels: int = 3,
    *,
    background: Color = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    smallest: int | None = None,
    warn: Warn = _warn_once,
) -> Image.Image | Tensor:
    """Decode one sample.

    Args:
        data: an encoded file, or pixels uint8 or uint16 (H, W) or (H, W, C).
        channels: wanted: 1, 3 or 4 give a PIL image of mode L, RGB or RGBA, any other count a uint8 tensor (C, H, W).
        background: the colour behind transparent pixels, where ``channels`` is not 4.
        smallest: a JPEG may come out at a half, a quarter or an eighth of its size, where that divides both sides and
            leaves them no shorter than this; its decoder then computes only the coarse part of each block.
        warn: called for images that are accepted with a reservation (damaged EXIF, several pages).

    Raises:
        BadImage: the cause, without the sample's name.
    """
    return decode_enough(data, channels, lambda _: smallest, background=background, max_pixels=max_pixels, warn=warn)[0]


def decode_enough(
    data: bytes | np.ndarray,
    channels: int,
    sufficient: Sufficient,
    *,
    background: Color = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
    warn: Warn = _warn_once,
) -> tuple[Image.Image | Tensor, tuple[int, int]]:
    """What :func:`decode` gives, with ``smallest`` depending on the size of the image, and its (height, width) in full.

    Raises:
        BadImage: the cause, without the sample's name.
    """
    try:
        if isinstance(data, np.ndarray):
            pixels = _array(data)
            opened: Image.Image | np.ndarray = pixels
            size = pixels.shape[:2]
        else:
            opened, size = _open(data, max_pixels, sufficient, warn)
        return _to_channels(opened, channels, background), size
    except BadImage:
        raise
    except Broken as error:
        raise BadImage(str(error)) from None
    except MemoryError:
        raise BadImage("needs more memory than there is") from None
    except Exception as error:  # hostile bytes make decoders fail in every way there is
        reason = str(error).splitlines() or [type(error).__name__]
        raise BadImage(f"is damaged: {reason[0]}") from None


def decode_map(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Numbers that a PNG holds for pixels, as grey levels or places in its palette: uint8 (H, W).

    Raises:
        BadImage: it is no PNG, or holds colours; the cause, without the sample's name.
    """
    try:
        if sniff(data) != "PNG":
            raise Broken("is no PNG, and other formats change the numbers of classes; write it as PNG")
        image = PngImagePlugin.PngImageFile(io.BytesIO(png_pixels(data)[0]))
        _check_size(image.size, max_pixels)
        if image.mode not in ("L", "P", "1"):
            raise Broken(f"holds colours (mode {image.mode}), where a number a pixel is wanted; write grey levels")
        pixels = np.array(image)
    except BadImage:
        raise
    except Broken as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # as in decode
        raise BadImage(f"is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    return pixels.astype(np.uint8)


def upright_size(path: bytes) -> tuple[int, int]:
    """(height, width) of an image file after its EXIF orientation, from its header alone.

    Raises:
        BadImage: the cause, without the sample's name.
    """
    try:
        with open(path, "rb") as file:
            kind = sniff(file.read(64))
            file.seek(0)
            if kind not in _PLUGINS:
                raise Broken(f"is an array ({kind}), and a picture is wanted")
            image = _PLUGINS[kind](file)
            turned = (
                _orientation(image.info.get("exif", b""), lambda text: None) in _TURNED if kind != "TIFF" else False
            )
            return image.size if turned else image.size[::-1]
    except Broken as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # as in decode
        raise BadImage(f"is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _open(
    data: bytes, max_pixels: int, sufficient: Sufficient, warn: Warn
) -> tuple[Image.Image | np.ndarray, tuple[int, int]]:
    """The upright first frame with 8 bits a sample, in whatever mode it is stored, and its (height, width) in full."""
    kind, exif, adobe = sniff(data), b"", True
    if kind == "NPY":
        pixels = _array(npy_pixels(data))
        return pixels, pixels.shape[:2]
    if kind == "JPEG":
        data, exif, adobe = jpeg_pixels(data)
    elif kind == "PNG":
        data, exif = png_pixels(data)
    elif kind == "WEBP":
        _check_size(webp_size(data), max_pixels)
    image = _PLUGINS[kind](io.BytesIO(data))
    _check_size(image.size, max_pixels)
    if kind == "TIFF" and _has_second_page(image):
        warn("has several pages, of which the first is read")
    factor = 1
    if kind == "JPEG":
        turned = _orientation(exif or image.info.get("exif", b""), lambda _: None) in _TURNED
        smallest = sufficient(image.size if turned else image.size[::-1])
        factor = 1 if smallest is None else _shrink(image, smallest)
    image.load()
    upright = _UPRIGHT.get(_orientation(exif or image.info.get("exif", b""), warn)) if kind != "TIFF" else None
    image = _to_8_bits(image, kind)
    if image.mode == "CMYK" and not adobe:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them
    image = image.transpose(upright) if upright is not None else image
    return image, (factor * image.height, factor * image.width)


def _shrink(image: Image.Image, smallest: int) -> int:
    """Let the decoder of a JPEG leave out what is finer than a fraction of its size that divides it evenly; returns how
    many times smaller the image comes out."""
    for scale in (8, 4, 2):
        width, height = image.width // scale, image.height // scale
        if (width * scale, height * scale) == image.size and min(width, height) >= smallest:
            image.draft(image.mode, (width, height))
            return scale
    return 1


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Broken(f"has no pixels ({width} × {height})")
    if width * height > max_pixels:
        raise TooManyPixels(f"has {width} × {height} pixels, more than the limit of {max_pixels:,}")


def _has_second_page(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True


def _orientation(exif: bytes, warn: Warn) -> int:
    try:
        return orientation(exif) if exif else 1
    except Broken:
        warn("has damaged EXIF data, which is ignored")
        return 1


def _to_8_bits(image: Image.Image, kind: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})
        pixels = (np.asarray(image) >> (tags.get(_BITS_PER_SAMPLE, (16,))[0] - 8)).astype(np.uint8)
        return Image.fromarray(255 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels)
    if image.mode in ("F", "I"):
        what = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise Broken(f"holds {what} pixels, whose range is not stated; convert it to 8 or 16 bits")
    return image


def _array(pixels: np.ndarray) -> np.ndarray:
    """Checked pixels, uint8 (H, W, C)."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise Broken(f"is an array of {pixels.dtype}; uint8 or uint16 is wanted")
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise Broken(f"is an array of shape {pixels.shape}; (height, width) or (height, width, channels) is wanted")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_channels(opened: Image.Image | np.ndarray, channels: int, background: Color) -> Image.Image | Tensor:
    stored = opened.shape[2] if isinstance(opened, np.ndarray) else len(opened.getbands())
    if isinstance(opened, np.ndarray) and (stored not in _MODES or channels not in _MODES) and stored == channels:
        import torch

        return torch.from_numpy(np.ascontiguousarray(opened.transpose(2, 0, 1)).copy())
    if channels not in _MODES or (isinstance(opened, np.ndarray) and stored not in _MODES):
        raise Broken(f"has {stored} channels, where {channels} are wanted")
    image = Image.fromarray(opened.squeeze(2) if stored == 1 else opened) if isinstance(opened, np.ndarray) else opened
    mode = _MODES[channels]
    if mode != "RGBA" and image.has_transparency_data:
        image = _composite(image.convert("RGBA"), background)
    return image if image.mode == mode else image.convert(mode)


def _composite(image: Image.Image, background: Color) -> Image.Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return canvas
