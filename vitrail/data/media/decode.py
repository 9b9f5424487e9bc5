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
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vitrail import console
from vitrail.data.media import gif, jpeg, limits, netpbm, png, tiff
from vitrail.data.media.formats import npy_pixels, orientation, sniff, webp_size
from vitrail.data.media.limits import Broken, TooLarge
from vitrail.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs about a bad file, it raises too
Warn = Callable[[str], None]
Color = tuple[int, int, int]
Sufficient = Callable[[tuple[int, int]], int | None]
"""How long the sides of an image of this (height, width) need be; None: as long as they are."""

_PLUGINS: dict[str, Callable[..., ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
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
_SIDEWAYS = [_UPRIGHT[number] for number in _TURNED]
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # of a pixel in memory; in all other modes 4
_WEBP_CANVASES = 8  # bytes a pixel of its decoder's own, as long as the image is open
_STRIP = 2**18  # pixels that are converted at a time


class BadImage(UserError):
    """A sample that is no usable image. The message is the cause alone, as in "is empty (0 bytes)"."""

    def __init__(self, cause: str) -> None:
        super().__init__(console.printable(cause))

    def named(self, name: str) -> UserError:
        """The one-line error for users: which image, why, and what to do."""
        return UserError(f"{name} {self}; repair or remove it")


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
    warn: Warn = _warn_once,
) -> Image.Image | Tensor:
    """Decode one sample.

    Args:
        data: an encoded file, or pixels uint8 or uint16 (H, W) or (H, W, C).
        channels: wanted: 1, 3 or 4 give a PIL image of mode L, RGB or RGBA, any other count a uint8 tensor (C, H, W).
        background: the colour behind transparent pixels, where ``channels`` is not 4.
        max_pixels: refuse an image of more; default: :data:`vitrail.data.media.limits.PIXELS`.
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
    max_pixels: int | None = None,
    warn: Warn = _warn_once,
) -> tuple[Image.Image | Tensor, tuple[int, int]]:
    """What :func:`decode` gives, with ``smallest`` depending on the size of the image, and its (height, width) in full.

    Raises:
        BadImage: the cause, without the sample's name.
    """
    try:
        if isinstance(data, np.ndarray):
            pixels = _array(data, channels, max_pixels)
            opened: Image.Image | np.ndarray = pixels
            size = pixels.shape[:2]
        else:
            opened, size = _open(data, channels, max_pixels, sufficient, warn)
        return _to_channels(opened, channels, background), size
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
        image = PngImagePlugin.PngImageFile(io.BytesIO(png.gate(data)[0]))
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
        if kind == "NPY":
            raise Broken(f"is an array ({kind}), and a picture is wanted")
        if kind == "PPM":
            head = netpbm.header(data)
            limits.check_pixels((head.width, head.height))
            return head.height, head.width
        if kind == "PNG":
            size, exif = png.header(data)
            limits.check_pixels(size)
            return size if _orientation(exif, lambda _: None) in _TURNED else size[::-1]
        if kind == "JPEG":
            gated = jpeg.gate(data, complete=False)
            data, exif = gated.data, gated.exif
        elif kind == "GIF":
            data = gif.gate(data)
        elif kind == "TIFF":
            tiff.gate(data)
        elif kind == "WEBP":
            webp_size(data)
        image = _PLUGINS[kind](io.BytesIO(data))
        limits.check_pixels(image.size)
        turned = kind != "TIFF" and _orientation(exif or image.info.get("exif", b""), lambda _: None) in _TURNED
        return image.size if turned else image.size[::-1]
    except UserError:
        raise
    except Exception as error:  # as in decode
        raise bad(error) from None


def _open(
    data: bytes, channels: int, max_pixels: int | None, sufficient: Sufficient, warn: Warn
) -> tuple[Image.Image | np.ndarray, tuple[int, int]]:
    """The upright first frame with 8 bits a sample, in whatever mode it is stored, and its (height, width) in full."""
    kind, exif, adobe, factor = sniff(data), b"", True, 1
    if kind == "NPY":
        pixels = _array(npy_pixels(data), channels, max_pixels)
        return pixels, pixels.shape[:2]
    if kind == "PPM":
        return _netpbm(data, channels, max_pixels)
    gated: jpeg.Jpeg | None = None
    if kind == "JPEG":
        gated = jpeg.gate(data)
        data, exif, adobe = gated.data, gated.exif, gated.adobe
    elif kind == "PNG":
        data, exif = png.gate(data)
    elif kind == "GIF":
        data = gif.gate(data)
    elif kind == "WEBP":  # its decoder allocates when it opens
        size = webp_size(data)
        limits.check_pixels(size, max_pixels)
        limits.check_memory(size, size[0] * size[1] * (_WEBP_CANVASES + 8))
    elif kind == "TIFF" and tiff.gate(data):
        warn("has several pages, of which the first is read")
    image = _PLUGINS[kind](io.BytesIO(data))
    limits.check_pixels(image.size, max_pixels)
    if slow := [tile[0] for tile in image.tile if tile[0] in Image.DECODERS]:
        raise Broken(f"is packed in a way that is read too slowly ({slow[0]}); save it as PNG")
    given = exif or (image.info.get("exif", b"") if kind != "TIFF" else b"")
    upright = _UPRIGHT.get(_orientation(given, warn)) if kind != "TIFF" else None
    full = image.size
    if gated is not None:
        gated.check_passes(full)
        image.decodermaxblock = len(data)  # in one piece: a decoder that waits for more begins a marker again
        smallest = sufficient(full if upright in _SIDEWAYS else full[::-1])
        factor = 1 if smallest is None else _shrink(image, smallest)
    extra = 0.0 if gated is None else gated.coefficients * full[0] * full[1]
    limits.check_memory(full, len(data) + _needed(image, kind, channels, turned=upright is not None, extra=extra))
    image.load()
    opened = _to_8_bits(image, kind)
    if opened.mode == "CMYK" and not adobe:  # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them
        opened = _in_strips(opened, ImageChops.invert, "CMYK")
    opened = opened.transpose(upright) if upright is not None else opened
    return opened, (factor * opened.height, factor * opened.width)


def _netpbm(data: bytes, channels: int, max_pixels: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    head = netpbm.header(data)
    size = head.width, head.height
    limits.check_pixels(size, max_pixels)
    mode = _MODES[head.channels]
    other = _bytes(_MODES.get(channels, mode)) if channels != head.channels else 0
    limits.check_memory(size, len(data) + size[0] * size[1] * (head.channels + _bytes(mode) + other))
    return netpbm.pixels(data, head), size[::-1]


def _needed(image: Image.Image, kind: str, channels: int, *, turned: bool, extra: float) -> int:
    """Bytes that an opened image takes at once: its pixels as stored, beside them as turned or as wanted, and what its
    decoder holds, ``extra`` until it is done."""
    stored, wanted = _bytes(image.mode), _MODES.get(channels, image.mode)
    converted = image.mode != wanted or (channels != 4 and image.has_transparency_data)
    copied = turned or kind in ("TIFF", "WEBP")  # of a TIFF, one strip may be all
    beside = max(_bytes(wanted) if converted else 0, stored if copied else 0)
    beside += _WEBP_CANVASES if kind == "WEBP" else 0
    pixels = image.width * image.height
    return int(max(pixels * (stored + beside), pixels * stored + extra))


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


def _orientation(exif: bytes, warn: Warn) -> int:
    try:
        return orientation(exif) if exif else 1
    except Broken:
        warn("has damaged EXIF data, which is ignored")
        return 1


def _to_8_bits(image: Image.Image, kind: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})
        shift, inverted = tags.get(_BITS_PER_SAMPLE, (16,))[0] - 8, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO

        def high_byte(part: Image.Image) -> Image.Image:
            pixels = (np.asarray(part) >> shift).astype(np.uint8)
            return Image.fromarray(255 - pixels if inverted else pixels)

        return _in_strips(image, high_byte, "L")
    if image.mode in ("F", "I"):
        what = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise Broken(f"holds {what} pixels, whose range is not stated; convert it to 8 or 16 bits")
    return image


def _array(pixels: np.ndarray, channels: int, max_pixels: int | None) -> np.ndarray:
    """Checked pixels, uint8 (H, W, C)."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Broken(f"is an array of {pixels.dtype}; uint8 or uint16 is wanted")
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise Broken(f"is an array of shape {pixels.shape}; (height, width) or (height, width, channels) is wanted")
    size = pixels.shape[1], pixels.shape[0]
    limits.check_pixels(size, max_pixels)
    stored = pixels.shape[2] if pixels.ndim == 3 else 1
    copied = stored if pixels.dtype == np.uint16 or not pixels.flags.c_contiguous else 0
    mode, wanted = _MODES.get(stored), _MODES.get(channels)
    per_pixel = stored if mode is None or wanted is None else _bytes(mode) + (_bytes(wanted) if wanted != mode else 0)
    limits.check_memory(size, size[0] * size[1] * (copied + per_pixel))
    if pixels.dtype == np.uint16:
        pixels = np.right_shift(pixels, 8, out=np.empty(pixels.shape, np.uint8), casting="unsafe")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_channels(opened: Image.Image | np.ndarray, channels: int, background: Color) -> Image.Image | Tensor:
    stored = opened.shape[2] if isinstance(opened, np.ndarray) else len(opened.getbands())
    if isinstance(opened, np.ndarray) and (stored not in _MODES or channels not in _MODES) and stored == channels:
        import torch

        return torch.from_numpy(np.array(opened.transpose(2, 0, 1), order="C"))
    if channels not in _MODES or (isinstance(opened, np.ndarray) and stored not in _MODES):
        raise Broken(f"has {stored} channels, where {channels} are wanted")
    image = Image.fromarray(opened.squeeze(2) if stored == 1 else opened) if isinstance(opened, np.ndarray) else opened
    mode = _MODES[channels]
    if mode != "RGBA" and image.has_transparency_data:
        image = _in_strips(image, lambda part: _composite(part.convert("RGBA"), background), "RGB")
    return image if image.mode == mode else image.convert(mode)


def _composite(image: Image.Image, background: Color) -> Image.Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return canvas


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    """What a conversion to ``mode`` gives, with no more in memory than the image, the result and a strip."""
    if image.width * image.height <= _STRIP:
        return convert(image)
    result = Image.new(mode, image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(convert(image.crop(box)), box)
    return result
