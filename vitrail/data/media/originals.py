"""A picture with all that is to be kept of it where another one is made of it: 16 bits, transparency, grey, colours."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitrail.data.media import limits, plugins
from vitrail.data.media.decode import DEEP_COPIES, BadImage, bad, decode
from vitrail.data.media.formats import sniff
from vitrail.data.media.image_like import ImageLike, contents, name_of, open_image
from vitrail.data.media.png import gate
from vitrail.data.media.png16 import profile_of
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.samples import has_sixteen, load_sixteen
from vitrail.data.transforms.preprocess import to_pixels
from vitrail.errors import UserError
from vitrail.ops.bicubic import imresize

DEEP = 257  # 16-bit levels in one of 8 bits


@dataclass(frozen=True)
class PictureForm:
    """How a picture is stored.

    Attributes:
        bits: of a sample, 8 or 16.
        grey: without colours.
        alpha: transparency uint8 (H, W), 0 is clear; None: nothing is.
        profile: the ICC profile of its colours.
    """

    bits: int = 8
    grey: bool = False
    alpha: NDArray[np.uint8] | None = field(default=None, repr=False)
    profile: bytes | None = field(default=None, repr=False)

    def enlarged(self, factor: int) -> PictureForm:
        """That of a picture that is so many times larger."""
        if self.alpha is None or factor == 1:
            return self
        return dataclasses.replace(self, alpha=imresize(torch.from_numpy(self.alpha.copy()), factor).numpy())

    def image(self, levels: NDArray[np.uint16]) -> Image.Image:
        """Levels from 0 to 65535, (H, W, C), as a Pillow image of this form; colours of 16 bits come out as 8 bits."""
        if self.grey:
            levels = levels.mean(axis=2, keepdims=True).round().astype(np.uint16)
            if self.bits == 16 and self.alpha is None:
                return Image.fromarray(levels[..., 0])
        pixels = to_8_bits(levels)
        parts = [pixels] if self.alpha is None else [pixels, self.alpha[..., None]]
        joined = np.concatenate(parts, axis=2)
        return Image.fromarray(joined[..., 0] if joined.shape[2] == 1 else joined)


PLAIN = PictureForm()


@dataclass(frozen=True)
class Original:
    """A picture to be read as finely as it is stored.

    Attributes:
        pixels: uint8 (C, H, W), or of 16 bits float32 in the same range of 0 to 255.
    """

    pixels: Tensor
    form: PictureForm


def to_8_bits(levels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The nearest of 256 levels."""
    found: NDArray[np.uint8] = ((levels.astype(np.uint32) + DEEP // 2) // DEEP).astype(np.uint8)
    return found


def open_original(image: ImageLike, channels: int, reading: Reading = DEFAULT) -> Original:
    """The decoded picture, upright, with its form.

    Args:
        channels: of ``pixels``.

    Raises:
        UserError: it cannot be read, with its name.
    """
    if channels not in (1, 3) or reading.value_range is not None:
        return Original(to_pixels(open_image(image, channels, reading=reading)), PictureForm())
    try:
        data = contents(image)
        if isinstance(data, np.ndarray):
            return _of_array(data, channels, open_image(image, channels, reading=reading))
        return _of_file(data, channels, reading)
    except BadImage as error:
        raise error.named(name_of(image)) from None
    except OSError as error:
        raise UserError(f"{name_of(image)} is damaged: {error}; repair or remove it") from None


def _of_array(data: NDArray[Any], channels: int, decoded: object) -> Original:
    grey = data.ndim == 2 or data.shape[2] == 1
    alpha = data[..., 3] if data.ndim == 3 and data.shape[2] == 4 and data.dtype == np.uint8 else None
    if data.dtype == np.uint16 and (grey or data.shape[2] == 3):
        return Original(_channels(data if data.ndim == 3 else data[..., None], channels), PictureForm(16, grey))
    assert isinstance(decoded, Image.Image | Tensor)
    return Original(to_pixels(decoded), PictureForm(8, grey, alpha))


def _of_file(data: bytes, channels: int, reading: Reading) -> Original:
    picture = decode(data, 4, reading=reading)  # which checks the file before anything is made of it
    assert isinstance(picture, Image.Image)
    kind, profile, exif = sniff(data), None, b""
    if kind == "PNG":
        profile = profile_of(data)
        data, exif = gate(data)
    stored = _stored(kind, data, reading)
    form = PictureForm()
    deep: NDArray[np.uint16] | None = None
    if stored is not None:
        grey = stored.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
        given = profile if kind == "PNG" else stored.info.get("icc_profile")
        form = PictureForm(grey=grey, profile=given if stored.mode not in ("CMYK", "YCbCr", "LAB") else None)
        deep = _sixteen(kind, data, stored, reading)
    alpha = np.asarray(picture)[..., 3] if picture.mode == "RGBA" else None
    if alpha is not None and (alpha < 255).any():
        form = dataclasses.replace(form, alpha=alpha.copy())
    if deep is None:
        flat = picture.convert("RGB")  # colours behind transparency as they are stored
        del picture, alpha
        return Original(to_pixels(flat if channels == 3 else flat.convert("L")), form)
    turned = plugins.UPRIGHT.get(plugins.orientation_of(exif, lambda _: None))  # a TIFF's reader turns it itself
    deep = _upright(deep, turned) if turned is not None else deep
    return Original(_channels(deep[..., :3] if deep.shape[2] > 2 else deep[..., :1], channels), replace_bits(form))


def replace_bits(form: PictureForm) -> PictureForm:
    """The same with 16 bits a sample."""
    return dataclasses.replace(form, bits=16)


def _stored(kind: str, data: bytes, reading: Reading) -> Image.Image | None:
    """The file opened and not loaded; None where it is none of Pillow's."""
    if kind in ("NPY", "DICOM", "PPM"):
        return None
    try:
        return plugins.opened(kind, data, reading.page or 0)
    except Exception:  # it was decoded in another way, which is enough
        return None


def _sixteen(kind: str, data: bytes, stored: Image.Image, reading: Reading) -> NDArray[np.uint16] | None:
    """uint16 (H, W, C) where samples have 16 bits.

    Raises:
        BadImage: they need more memory than an image may.
    """
    coloured = has_sixteen(stored)
    if not coloured and not stored.mode.startswith("I;16") and not (stored.mode == "I" and kind == "PNG"):
        return None
    try:
        limits.check_memory(stored.size, len(stored.getbands()) * stored.width * stored.height * DEEP_COPIES)
        if coloured:
            return load_sixteen(lambda: plugins.opened(kind, data, reading.page or 0))
        return np.asarray(stored).astype(np.uint16)[..., None]
    except Exception as error:  # as in decode
        raise bad(error) from None


def _upright(levels: NDArray[np.uint16], how: Image.Transpose) -> NDArray[np.uint16]:
    """(H, W, C) turned as Pillow turns images."""
    rules: dict[Image.Transpose, Any] = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda each: each[:, ::-1],
        Image.Transpose.FLIP_TOP_BOTTOM: lambda each: each[::-1],
        Image.Transpose.ROTATE_180: lambda each: each[::-1, ::-1],
        Image.Transpose.ROTATE_90: lambda each: np.rot90(each, 1),
        Image.Transpose.ROTATE_270: lambda each: np.rot90(each, 3),
        Image.Transpose.TRANSPOSE: lambda each: each.transpose(1, 0, 2),
        Image.Transpose.TRANSVERSE: lambda each: np.rot90(each, 2).transpose(1, 0, 2),
    }
    return np.ascontiguousarray(rules[how](levels))


def _channels(levels: NDArray[np.uint16], channels: int) -> Tensor:
    """uint16 (H, W, C) → float32 (channels, H, W) from 0 to 255."""
    values = torch.from_numpy(levels.astype(np.float32) / DEEP).permute(2, 0, 1)
    if len(values) == channels:
        return values.contiguous()
    if channels == 3:
        return values[:1].repeat(3, 1, 1)
    return (values * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0, keepdim=True)


def png_bytes(levels: NDArray[np.uint16], form: PictureForm) -> bytes:
    """A PNG of this form, with 16 bits in colours, too.

    Pillow writes no colours of 16 bits, so their rows are written here (PNG specification, section 11).
    """
    if form.bits == 8 or (form.grey and form.alpha is None):
        buffer = io.BytesIO()
        form.image(levels).save(buffer, "PNG", icc_profile=form.profile)
        return buffer.getvalue()
    from vitrail.data.media.png16 import encoded

    parts = [levels.mean(axis=2, keepdims=True).round().astype(np.uint16) if form.grey else levels]
    if form.alpha is not None:
        parts.append(form.alpha[..., None].astype(np.uint16) * DEEP)
    return encoded(np.concatenate(parts, axis=2), form.profile)
