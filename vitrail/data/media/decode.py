"""From the bytes or the array of one sample to an image: one policy for every place that reads images.

Formats are allow-listed by content. Size and completeness are checked before any pixel is allocated. Pixels come
out as 8 bits: 16-bit samples keep their high byte, or what a stated range makes of them, transparency is composited on
``background``, CMYK becomes (255 - ink)(255 - black) / 255 with embedded ICC profiles ignored, EXIF orientation is
applied, and of several frames or pages the first is taken unless another is named. Flipped bits inside a JPEG's image
data cannot be detected and pass.
"""

from __future__ import annotations

import functools
import io
import logging
import mmap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import (
    AvifImagePlugin,
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
from vitrail.data.media.dicom import dicom_pixels
from vitrail.data.media.formats import (
    Broken,
    jpeg_pixels,
    npy_pixels,
    orientation,
    png_pixels,
    sniff,
    webp_size,
)
from vitrail.data.media.reading import DEFAULT, MAX_PIXELS_VARIABLE, Reading
from vitrail.data.media.reading import max_pixels as default_max_pixels
from vitrail.data.media.samples import BANDS, has_sixteen, load_sixteen, to_8_bits, warn_of_few_bits
from vitrail.data.media.tiff import Tags, read_bands, read_tags, with_stated_alpha
from vitrail.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

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
    "AVIF": AvifImagePlugin.AvifImageFile,
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
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class BadImage(UserError):
    """A sample that is no usable image. The message is the cause alone, as in "is empty (0 bytes)"."""

    def __init__(self, cause: str) -> None:
        super().__init__(console.printable(cause))

    def named(self, name: str) -> UserError:
        """The one-line error for users: which image, why, and what to do."""
        told = "; " in str(self)  # the cause says it already
        return UserError(f"{name} {self}" if told else f"{name} {self}; repair or remove it")


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
    max_pixels: int | None = None,
    smallest: int | None = None,
    reading: Reading = DEFAULT,
    warn: Warn = _warn_once,
) -> Image.Image | Tensor:
    """Decode one sample.

    Args:
        data: an encoded file, or pixels uint8 or uint16 (H, W) or (H, W, C).
        channels: wanted: 1, 3 or 4 give a PIL image of mode L, RGB or RGBA (RGBX where the fourth band of four is no
            transparency), any other count a uint8 tensor (C, H, W).
        background: the colour behind transparent pixels, where ``channels`` is not 4.
        max_pixels: default: that of :func:`vitrail.data.media.reading.max_pixels`.
        smallest: a JPEG may come out at a half, a quarter or an eighth of its size, where that divides both sides and
            leaves them no shorter than this; its decoder then computes only the coarse part of each block.
        reading: the range of values of more than 8 bits, and the page.
        warn: called for images that are accepted with a reservation (damaged EXIF, several pages, dark 16-bit samples).

    Raises:
        BadImage: the cause, without the sample's name.
    """
    options: dict[str, Any] = {"background": background, "max_pixels": max_pixels, "reading": reading, "warn": warn}
    return decode_enough(data, channels, lambda _: smallest, **options)[0]


def decode_enough(
    data: bytes | np.ndarray,
    channels: int,
    sufficient: Sufficient,
    *,
    background: Color = (255, 255, 255),
    max_pixels: int | None = None,
    reading: Reading = DEFAULT,
    warn: Warn = _warn_once,
) -> tuple[Image.Image | Tensor, tuple[int, int]]:
    """What :func:`decode` gives, with ``smallest`` depending on the size of the image, and its (height, width) in full.

    Raises:
        BadImage: the cause, without the sample's name.
    """
    max_pixels = max_pixels or default_max_pixels()
    try:
        if isinstance(data, np.ndarray):
            pixels = _array(data, reading, warn)
            opened: Image.Image | np.ndarray = pixels
            size = pixels.shape[:2]
        else:
            opened, size = _open(data, max_pixels, sufficient, reading, warn)
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


def decode_map(data: bytes, *, max_pixels: int | None = None) -> np.ndarray:
    """Numbers that a PNG holds for pixels, as grey levels or places in its palette: uint8 (H, W).

    Raises:
        BadImage: it is no PNG, or holds colours; the cause, without the sample's name.
    """
    try:
        if sniff(data) != "PNG":
            raise Broken("is no PNG, and other formats change the numbers of classes; write it as PNG")
        image = PngImagePlugin.PngImageFile(io.BytesIO(png_pixels(data)[0]))
        _check_size(image.size, max_pixels or default_max_pixels())
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
            if kind in ("NPY", "DICOM"):
                raise Broken(f"is {kind}, and a picture is wanted")
            if kind == "TIFF":  # also of bands that Pillow does not open
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    width, height = read_tags(data).size
                return height, width
            image = _plugin(kind)(file)
            turned = _orientation(image.info.get("exif", b""), lambda text: None) in _TURNED
            return image.size if turned else image.size[::-1]
    except Broken as error:
        raise BadImage(str(error)) from None
    except Exception as error:  # as in decode
        raise BadImage(f"is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _open(
    data: bytes, max_pixels: int, sufficient: Sufficient, reading: Reading, warn: Warn
) -> tuple[Image.Image | np.ndarray, tuple[int, int]]:
    """The upright first frame with 8 bits a sample, in whatever mode it is stored, and its (height, width) in full."""
    kind, exif, adobe = sniff(data), b"", True
    if kind == "NPY":
        pixels = _array(npy_pixels(data), reading, warn)
        return pixels, pixels.shape[:2]
    if kind == "DICOM":
        pixels = dicom_pixels(data, reading, lambda size: _check_size(size, max_pixels))
        return pixels, pixels.shape[:2]
    tags = read_tags(data, reading.page or 0) if kind == "TIFF" else None
    if tags is not None:
        _check_size(tags.size, max_pixels)
        if tags.several and reading.page is None:
            warn("has several pages, of which the first is read (--page or data.preprocess.reading.page chooses)")
        if tags.are_bands:
            pixels = _bands(data, tags, reading, warn)
            return (_four_bands(pixels) if pixels.shape[2] == 4 else pixels), pixels.shape[:2]
    if kind == "JPEG":
        data, exif, adobe = jpeg_pixels(data)
    elif kind == "PNG":
        data, exif = png_pixels(data)
    elif kind == "WEBP":
        _check_size(webp_size(data), max_pixels)
    image = _opened(kind, data, reading)
    _check_size(image.size, max_pixels)
    factor = 1
    if kind == "JPEG":
        turned = _orientation(exif or image.info.get("exif", b""), lambda _: None) in _TURNED
        smallest = sufficient(image.size if turned else image.size[::-1])
        factor = 1 if smallest is None else _shrink(image, smallest)
    if reading.value_range is not None and has_sixteen(image):
        deep = load_sixteen(lambda: _opened(kind, data, reading))
        image = Image.fromarray(to_8_bits(deep, reading, warn))
    if has_sixteen(image):
        warn_of_few_bits(int(np.asarray(image)[..., :3].max()) << 8 | 255, warn)
    image.load()
    upright = _UPRIGHT.get(_orientation(exif or image.info.get("exif", b""), warn)) if kind != "TIFF" else None
    image = _to_8_bits(image, kind, tags, reading, warn)
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
        raise TooManyPixels(
            f"has {width} × {height} pixels, more than the limit of {max_pixels:,}; make it smaller, or allow them "
            f"with --max-pixels {width * height} ({MAX_PIXELS_VARIABLE})"
        )


def _plugin(kind: str) -> Callable[..., Image.Image]:
    """Pillow's reader of a format."""
    return _PLUGINS[kind] if kind != "HEIC" else _heif


def _heif(file: io.BytesIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise Broken("is a HEIC photo (HEIF), which needs an extra; run: pip install 'vitrail[heif]'") from None
    try:
        image: Image.Image = HeifImageFile(file)
    except (ValueError, SyntaxError, OSError, EOFError, RuntimeError) as error:
        raise Broken(f"is a damaged HEIF file: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    return image


def _opened(kind: str, data: bytes, reading: Reading) -> Image.Image:
    """The image at the page that is meant, not loaded yet."""
    image = _plugin(kind)(io.BytesIO(data))
    if kind == "TIFF" and reading.page:
        image.seek(reading.page)
    return image


def _bands(data: bytes, tags: Tags, reading: Reading, warn: Warn) -> np.ndarray:
    """uint8 (H, W, C) of a TIFF whose samples are no colours with or without transparency."""
    if tags.samples == 4 and tags.bits == 8 and not reading.page:
        image = _PLUGINS["TIFF"](io.BytesIO(with_stated_alpha(data, tags)))
        if len(image.getbands()) == 4:
            return np.asarray(image)
    return to_8_bits(read_bands(data, reading.page or 0), reading, warn, tags.bits)


def _orientation(exif: bytes, warn: Warn) -> int:
    try:
        return orientation(exif) if exif else 1
    except Broken:
        warn("has damaged EXIF data, which is ignored")
        return 1


def _to_8_bits(image: Image.Image, kind: str, tags: Tags | None, reading: Reading, warn: Warn) -> Image.Image:
    if not image.mode.startswith("I;16") and image.mode not in ("F", "I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "I" and kind in ("PNG", "PPM"):
        pixels = pixels.astype(np.uint16)
    shown = to_8_bits(pixels, reading, warn, tags.bits if tags is not None else 16)
    return Image.fromarray(255 - shown if tags is not None and tags.white_is_zero else shown)


def _array(pixels: np.ndarray, reading: Reading, warn: Warn) -> np.ndarray:
    """Checked pixels, uint8 (H, W, C)."""
    ranged = reading.value_range is not None and pixels.dtype.kind in "iuf"
    if pixels.dtype != np.uint8 and pixels.dtype.newbyteorder("=") != np.uint16 and not ranged:
        raise Broken(
            f"is an array of {pixels.dtype}; uint8 or uint16 is wanted, or a stated range (--value-range LOW:HIGH)"
        )
    pixels = to_8_bits(pixels, reading, warn)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise Broken(f"is an array of shape {pixels.shape}; (height, width) or (height, width, channels) is wanted")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_channels(opened: Image.Image | np.ndarray, channels: int, background: Color) -> Image.Image | Tensor:
    stored = opened.shape[2] if isinstance(opened, np.ndarray) else len(opened.getbands())
    if isinstance(opened, np.ndarray) and stored == channels == 4:
        return _four_bands(opened)
    if isinstance(opened, Image.Image) and opened.mode == BANDS:
        if channels != 4:
            raise Broken(
                f"has 4 bands, of which nothing says that the last is transparency, where {channels} are wanted; "
                "choose --channels 4, or leave a band out"
            )
        return opened
    if isinstance(opened, np.ndarray) and (stored not in _MODES or channels not in _MODES) and stored == channels:
        import torch

        return torch.from_numpy(np.ascontiguousarray(opened.transpose(2, 0, 1)).copy())
    if channels not in _MODES or (isinstance(opened, np.ndarray) and stored not in _MODES):
        raise Broken(f"has {stored} channels, where {channels} are wanted; choose --channels {stored}")
    image = Image.fromarray(opened.squeeze(2) if stored == 1 else opened) if isinstance(opened, np.ndarray) else opened
    mode = _MODES[channels]
    if mode != "RGBA" and image.has_transparency_data:
        image = _composite(image.convert("RGBA"), background)
    return image if image.mode == mode else image.convert(mode)


def _four_bands(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, 4) as an image that Pillow resizes band by band, with no regard to transparency."""
    height, width = pixels.shape[:2]
    return Image.frombuffer(BANDS, (width, height), np.ascontiguousarray(pixels).tobytes())


def _composite(image: Image.Image, background: Color) -> Image.Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return canvas
