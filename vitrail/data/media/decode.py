"""From the bytes or the array of one sample to an image: one policy for every place that reads images.

Formats are allow-listed by content. Size and completeness are checked before any pixel is allocated. Pixels come
out as 8 bits: 16-bit samples keep their high byte, or what a stated range makes of them, transparency is composited on
``background``, CMYK becomes (255 - ink)(255 - black) / 255 with embedded ICC profiles ignored, EXIF orientation is
applied, and of several frames or pages the first is taken unless another is named. Flipped bits inside a JPEG's image
data cannot be detected and pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageChops

from vitrail import console
from vitrail.data.media import gif, jpeg, limits, netpbm, plugins, png, tiff_gate
from vitrail.data.media.channels import MODES, Color, four_bands, in_strips, to_channels
from vitrail.data.media.dicom import dicom_pixels
from vitrail.data.media.formats import npy_pixels, sniff, webp_size
from vitrail.data.media.limits import Broken, TooLarge
from vitrail.data.media.plugins import TURNED, UPRIGHT, Warn, orientation_of
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.samples import has_sixteen, load_sixteen, to_8_bits, warn_of_few_bits
from vitrail.data.media.tiff import Tags, read_bands, read_tags, tiff_size, with_stated_alpha
from vitrail.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Sufficient = Callable[[tuple[int, int]], int | None]
"""How long the sides of an image of this (height, width) need be; None: as long as they are."""

_SIDEWAYS = [UPRIGHT[number] for number in TURNED]
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # of a pixel in memory; in all other modes 4
_CANVASES = 8  # bytes a pixel of the own of the decoders of WebP, AVIF and HEIC, as long as the image is open
_DICOM_COPIES = 20  # bytes a pixel: in the file's type, twice in 64 bits, and shown
DEEP_COPIES = 10
"""Bytes a sample of 16 bits: two readings, and what is made of them."""
_BYTES_A_ROW = 8  # Pillow keeps where each row begins


class BadImage(UserError):
    """A sample that is no usable image. The message is the cause alone, as in "is empty (0 bytes)"."""

    def named(self, name: str) -> UserError:
        """The one-line error for users: which image, why, and what to do."""
        told = "; " in str(self)  # the cause says it already
        return UserError(f"{name} {self}" if told else f"{name} {self}; repair or remove it")


class TooManyPixels(BadImage):
    """It has more pixels than it may, or decoding them takes more memory; none of them was decoded."""


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
        max_pixels: refuse an image of more; default: :data:`vitrail.data.media.limits.PIXELS`.
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
    try:
        if isinstance(data, np.ndarray):
            pixels = _array(data, channels, max_pixels, reading, warn)
            opened: Image.Image | np.ndarray = pixels
            size = pixels.shape[:2]
        else:
            opened, size = _open(data, channels, max_pixels, sufficient, reading, warn)
        return to_channels(opened, channels, background), size
    except UserError:
        raise
    except Exception as error:  # hostile bytes make decoders fail in every way there is
        raise bad(error) from None


def bad(error: Exception) -> BadImage:
    """What went wrong in a decoder, in one line."""
    if isinstance(error, Broken):
        return (TooManyPixels if isinstance(error, TooLarge) else BadImage)(str(error))
    if isinstance(error, MemoryError):
        return BadImage("needs more memory than there is")
    reason = str(error).splitlines() or [type(error).__name__]
    return BadImage(f"is damaged: {reason[0]}")


def decode_map(data: bytes, *, max_pixels: int | None = None) -> np.ndarray:
    """Numbers that a PNG holds for pixels, as grey levels or places in its palette: uint8 (H, W).

    Raises:
        BadImage: it is no PNG, or holds colours; the cause, without the sample's name.
    """
    try:
        if sniff(data) != "PNG":
            raise Broken("is no PNG, and other formats change the numbers of classes; write it as PNG")
        image = plugins.opened("PNG", png.gate(data)[0])
        limits.check_pixels(image.size, max_pixels)
        if image.mode not in ("L", "P", "1"):
            raise Broken(f"holds colours (mode {image.mode}), where a number a pixel is wanted; write grey levels")
        pixels = np.array(image)
    except UserError:
        raise
    except Exception as error:  # as in decode
        raise bad(error) from None
    return pixels.astype(np.uint8, copy=False)


def upright_size(data: bytes) -> tuple[int, int]:
    """(height, width) after its EXIF orientation of an image whose first bytes these are.

    Raises:
        BadImage: the cause, without the sample's name; more bytes may help.
    """
    try:
        kind, exif = sniff(data), b""
        if kind in ("NPY", "DICOM"):
            raise Broken(f"is {kind}, and a picture is wanted")
        if kind == "TIFF":  # also of bands that Pillow does not open, and of more pixels than are decoded at once
            return tiff_size(data)
        if kind == "PPM":
            head = netpbm.header(data)
            limits.check_pixels((head.width, head.height))
            return head.height, head.width
        if kind == "PNG":
            size, exif = png.header(data)
            limits.check_pixels(size)
            return size if orientation_of(exif, lambda _: None) in TURNED else size[::-1]
        if kind == "JPEG":
            gated = jpeg.gate(data, complete=False)
            data, exif = gated.data, gated.exif
        elif kind == "GIF":
            data = gif.gate(data)
        elif kind == "WEBP":
            webp_size(data)
        image = plugins.opened(kind, data)
        limits.check_pixels(image.size)
        turned = orientation_of(exif or image.info.get("exif", b""), lambda _: None) in TURNED
        return image.size if turned else image.size[::-1]
    except UserError:
        raise
    except Exception as error:  # as in decode
        raise bad(error) from None


def _open(
    data: bytes, channels: int, max_pixels: int | None, sufficient: Sufficient, reading: Reading, warn: Warn
) -> tuple[Image.Image | np.ndarray, tuple[int, int]]:
    """The upright frame with 8 bits a sample, in whatever mode it is stored, and its (height, width) in full."""
    kind, exif, adobe, factor = sniff(data), b"", True, 1
    pixels: np.ndarray | None = None
    if kind == "NPY":
        pixels = _array(npy_pixels(data), channels, max_pixels, reading, warn)
    elif kind == "DICOM":
        pixels = dicom_pixels(data, reading, lambda size: _check(size, max_pixels, _DICOM_COPIES))
    elif kind == "PPM":
        pixels = _netpbm(data, channels, max_pixels)
    if pixels is not None:
        return pixels, pixels.shape[:2]
    gated: jpeg.Jpeg | None = None
    tags: Tags | None = None
    if kind == "TIFF":
        tags = _tiff(data, max_pixels, reading, warn)
        if tags.are_bands:
            pixels = _bands(data, tags, reading, warn)
            return (four_bands(pixels) if pixels.shape[2] == 4 else pixels), pixels.shape[:2]
        if tags.needs_codec:
            image = _by_codec(data, tags, reading, warn)
            return image, (image.height, image.width)
    elif kind == "JPEG":
        gated = jpeg.gate(data)
        data, exif, adobe = gated.data, gated.exif, gated.adobe
    elif kind == "PNG":
        data, exif = png.gate(data)
    elif kind == "GIF":
        data = gif.gate(data)
    elif kind == "WEBP":  # its decoder allocates when it opens
        _check(webp_size(data), max_pixels, _CANVASES + 8)
    image = plugins.opened(kind, data, reading.page or 0)
    limits.check_pixels(image.size, max_pixels)
    if slow := [tile[0] for tile in getattr(image, "tile", ()) if tile[0] in Image.DECODERS]:
        raise Broken(f"is packed in a way that is read too slowly ({slow[0]}); save it as PNG")
    given = exif or (image.info.get("exif", b"") if kind != "TIFF" else b"")
    upright = UPRIGHT.get(orientation_of(given, warn)) if kind != "TIFF" else None
    full = image.size
    if gated is not None:
        gated.check_passes(full)
        stored: Any = image
        stored.decodermaxblock = len(data)  # in one piece: a decoder that waits for more begins a marker again
        smallest = sufficient(full if upright in _SIDEWAYS else full[::-1])
        factor = 1 if smallest is None else _shrink(image, smallest)
    extra = 0.0 if gated is None else gated.coefficients * full[0] * full[1]
    limits.check_memory(full, len(data) + _needed(image, kind, channels, turned=upright is not None, extra=extra))
    image = _loaded(image, lambda: plugins.opened(kind, data, reading.page or 0), reading, warn)
    image = _to_8_bits(image, kind, tags, reading, warn)
    if image.mode == "CMYK" and not adobe:  # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them
        image = in_strips(image, ImageChops.invert, "CMYK")
    image = image.transpose(upright) if upright is not None else image
    return image, (factor * image.height, factor * image.width)


def _loaded(image: Image.Image, again: Callable[[], Image.Image], reading: Reading, warn: Warn) -> Image.Image:
    """With its pixels, of which Pillow keeps the high bytes where there are 16 bits in each of several colours."""
    deep = has_sixteen(image)
    if deep and reading.value_range is not None:
        samples = len(image.getbands()) * image.width * image.height
        limits.check_memory(image.size, samples * DEEP_COPIES)
        return Image.fromarray(to_8_bits(load_sixteen(again), reading, warn))
    image.load()
    if deep:
        extremes: Any = image.getextrema()  # of each band
        warn_of_few_bits(max(high for _, high in extremes[:3]) << 8 | 255, warn)
    return image


def _tiff(data: bytes, max_pixels: int | None, reading: Reading, warn: Warn) -> Tags:
    """The tags of the page that is meant."""
    tiff_gate.gate(data, reading.page or 0)
    tags = read_tags(data, reading.page or 0)
    try:
        limits.check_pixels(tags.size, max_pixels)
    except TooLarge as error:
        raise TooLarge(f"{error}; detection and segmentation read it by tiles with --tile 512") from None
    if tags.several and reading.page is None:
        warn("has several pages, of which the first is read (--page or data.preprocess.reading.page chooses)")
    if tags.are_bands or tags.needs_codec:
        _check(tags.size, max_pixels, 3 * tags.samples * max(1, tags.bits // 8))
    return tags


def _check(size: tuple[int, int], max_pixels: int | None, per_pixel: int) -> None:
    """(width, height), of which each pixel takes so many bytes."""
    limits.check_pixels(size, max_pixels)
    limits.check_memory(size, size[0] * size[1] * per_pixel)


def _bands(data: bytes, tags: Tags, reading: Reading, warn: Warn) -> np.ndarray:
    """uint8 (H, W, C) of a TIFF whose samples are no colours with or without transparency."""
    if tags.samples == 4 and tags.bits == 8 and not reading.page:
        image = plugins.opened("TIFF", with_stated_alpha(data, tags))
        if len(image.getbands()) == 4:
            return np.asarray(image)
    return to_8_bits(read_bands(data, reading.page or 0), reading, warn, tags.bits)


def _by_codec(data: bytes, tags: Tags, reading: Reading, warn: Warn) -> Image.Image:
    """A picture in a compression that Pillow does not read."""
    if not tags.has_plain_colours:
        raise Broken("is compressed in a way that is read of RGB and grey levels alone; save it as PNG")
    pixels = to_8_bits(read_bands(data, reading.page or 0), reading, warn, tags.bits)
    pixels = 255 - pixels if tags.white_is_zero else pixels
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _netpbm(data: bytes, channels: int, max_pixels: int | None) -> np.ndarray:
    head = netpbm.header(data)
    size = head.width, head.height
    limits.check_pixels(size, max_pixels)
    mode = MODES[head.channels]
    other = _bytes(MODES.get(channels, mode)) if channels != head.channels else 0
    limits.check_memory(size, len(data) + size[0] * size[1] * (head.channels + _bytes(mode) + other))
    return netpbm.pixels(data, head)


def _needed(image: Image.Image, kind: str, channels: int, *, turned: bool, extra: float) -> int:
    """Bytes that an opened image takes at once: its pixels as stored, beside them as turned or as wanted, and what its
    decoder holds, ``extra`` until it is done."""
    stored, wanted = _bytes(image.mode), MODES.get(channels, image.mode)
    converted = image.mode != wanted or (channels != 4 and image.has_transparency_data)
    copied = turned or kind in ("TIFF", "WEBP", "AVIF", "HEIC")  # of a TIFF, one strip may be all
    beside = max(_bytes(wanted) if converted else 0, stored if copied else 0)
    beside += _CANVASES if kind in ("WEBP", "AVIF", "HEIC") else 0
    pixels, rows = image.width * image.height, _BYTES_A_ROW * image.height * (1 + (beside > 0))
    return int(rows + max(pixels * (stored + beside), pixels * stored + extra))


def _bytes(mode: str) -> int:
    """Of a pixel in memory."""
    return _BYTES.get(mode, 4)


def _shrink(image: Image.Image, smallest: int) -> int:
    """Let the decoder of a JPEG leave out what is finer than a fraction of its size that divides it evenly; returns how
    many times smaller the image comes out."""
    for scale in (8, 4, 2):
        width, height = image.width // scale, image.height // scale
        if (width * scale, height * scale) == image.size and min(width, height) >= smallest:
            image.draft(image.mode, (width, height))
            return scale
    return 1


def _to_8_bits(image: Image.Image, kind: str, tags: Tags | None, reading: Reading, warn: Warn) -> Image.Image:
    if not image.mode.startswith("I;16") and image.mode not in ("F", "I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "I" and kind == "PNG":
        pixels = pixels.astype(np.uint16)
    shown = to_8_bits(pixels, reading, warn, tags.bits if tags is not None else 16)
    if tags is not None and tags.white_is_zero:
        np.subtract(255, shown, out=shown)
    return Image.fromarray(shown)


def _array(pixels: np.ndarray, channels: int, max_pixels: int | None, reading: Reading, warn: Warn) -> np.ndarray:
    """Checked pixels, uint8 (H, W, C)."""
    ranged = reading.value_range is not None and pixels.dtype.kind in "iuf"
    if pixels.dtype != np.uint8 and pixels.dtype.newbyteorder("=") != np.uint16 and not ranged:
        raise Broken(
            f"is an array of {pixels.dtype}; uint8 or uint16 is wanted, or a stated range (--value-range LOW:HIGH)"
        )
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise Broken(f"is an array of shape {pixels.shape}; (height, width) or (height, width, channels) is wanted")
    size = pixels.shape[1], pixels.shape[0]
    stored = pixels.shape[2] if pixels.ndim == 3 else 1
    copied = stored if pixels.dtype != np.uint8 or not pixels.flags.c_contiguous else 0
    mode, wanted = MODES.get(stored), MODES.get(channels)
    per_pixel = stored if mode is None or wanted is None else _bytes(mode) + (_bytes(wanted) if wanted != mode else 0)
    _check(size, max_pixels, copied + per_pixel)
    pixels = to_8_bits(pixels, reading, warn)
    return pixels if pixels.ndim == 3 else pixels[..., None]
