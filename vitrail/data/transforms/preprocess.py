"""The one inference preprocessing: from an image of any size to the tensor that a model takes.

It runs in two halves, so that a loader can keep the first one's small uint8 result and do the second for a
batch: ``pixels`` (resize and crop, by Pillow) and ``finish`` (rescale and normalise). Both reproduce the libraries that
weights come from to the bit: ``resize="square"`` is the image processor of Hugging Face's ViT on its Pillow backend (at
crop_pct 1), and ``"crop"``, ``"square"``, ``"pad"`` are timm's crop modes ``center``, ``squash``, ``border``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator
from torch import Tensor

from vitrail.config import Size, config
from vitrail.data.keyed_random import Keys
from vitrail.data.media.reading import Reading
from vitrail.data.media.windows import WindowedTiff
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError
from vitrail.ops.tiles import TileConfig

Picture: TypeAlias = Image.Image | Tensor
"""A Pillow image of mode L, RGB or RGBA (1, 3, 4 channels), or a uint8 tensor (C, H, W) of any channel count."""

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
LONGEST = 16  # sides of the input that a strip is resized to at most, where the input is cut from it
_MODES = {"L": 1, "RGB": 3, "RGBA": 4, "RGBX": 4}


def _several(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


def _not_zero(values: tuple[float, ...]) -> tuple[float, ...]:
    if 0 in values:
        raise ValueError("a standard deviation is never 0")
    return values


PerChannel = Annotated[
    tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], BeforeValidator(_several), Field(min_length=1)
]


@config
class PreprocessOptions:
    """How an image becomes a model's input, as a run sets it: a size or a number of channels of None is the model's.

    ``mean`` and ``std`` are one number for all channels or one for each; ``reading`` is about files of more than 8
    bits. Spatial models with ``tiles`` see a picture tile by tile, each prepared as if it were the picture; None: all
    of it at once. With ``resize="none"`` pictures keep their size: they are seen by tiles, and in training by random
    parts of ``size``. ``degrade`` is what training and evaluation make of pictures that are to be restored.
    """

    size: Size | None = None  # (height, width); one number means a square
    channels: PositiveInt | None = None
    resize: Literal["square", "crop", "pad", "none"] = "square"
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 1.0  # resize to size / crop_pct, then take the centre
    crop_rounding: Literal["nearest", "down"] = "nearest"  # of where a crop begins: torchvision's, Hugging Face's
    border: Literal["around", "end"] = "around"  # of resize="pad"; at the end: below and to the right, as SAM has it
    interpolation: Interpolation = "bilinear"
    rescale: Annotated[float, Field(ge=1e-9, le=1e9)] = 1 / 255
    mean: PerChannel = (0.5,)
    std: Annotated[PerChannel, AfterValidator(_not_zero)] = (0.5,)
    tiles: TileConfig | None = None
    degrade: DegradeConfig | None = None
    reading: Reading = Field(default_factory=Reading)

    def resolve(self, size: tuple[int, int] | None = None, channels: int = 3) -> PreprocessConfig:
        """The config for a model of this native size and these channels, which count where none are set here.

        Raises:
            UserError: neither gives a size.
        """
        settings: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(PreprocessOptions)}
        settings["size"] = self.size or size
        settings["channels"] = self.channels or channels
        if settings["size"] is None:
            raise UserError("preprocess.size is not set and no model gives it; set it, or use run.resolved.data")
        return PreprocessConfig(**settings)

    @model_validator(mode="after")
    def _by_tiles(self) -> PreprocessOptions:
        if self.resize == "none" and (self.tiles is None or self.crop_pct != 1):
            raise ValueError("resize=none shows pictures by tiles, in full: set tiles.size, and leave crop_pct out")
        return self

    @model_validator(mode="after")
    def _one_or_each(self) -> PreprocessOptions:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if self.channels is not None and len(values) not in (1, self.channels):
                raise ValueError(
                    f"{name} has {len(values)} values for {self.channels} channels; give one, or one for each channel"
                )
        return self


@config
class PreprocessConfig(PreprocessOptions):
    """How an image becomes a model's input, in full: what :class:`Preprocess` does and every weights file holds."""

    size: Size = (224, 224)
    channels: PositiveInt = 3

    def options(self, size: tuple[int, int] | None = None, channels: int | None = None) -> PreprocessOptions:
        """The same as options, with None where the size and the channels are those of a model."""
        settings: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(PreprocessOptions)}
        options = PreprocessOptions(**settings)
        return replace(
            options,
            size=None if self.size == size else self.size,
            channels=None if self.channels == channels else self.channels,
        )

    def for_channels(self, channels: int) -> PreprocessConfig:
        """The same for images of other channels: mean and deviation are the mean of all channels'."""
        if channels == self.channels:
            return self
        mean, std = ((sum(values) / len(values),) for values in (self.mean, self.std))
        return replace(self, channels=channels, mean=mean, std=std)

    @property
    def shows_all(self) -> bool:
        """Whether all of an image is in the input."""
        return self.resize != "crop" and self.crop_pct == 1

    def showing_all(self) -> PreprocessConfig:
        """The same for models that find things wherever they lie in an image."""
        return replace(self, resize="square" if self.resize == "crop" else self.resize, crop_pct=1.0)


class Preprocess:
    """``Preprocess(config)(image) -> float32 (C, H, W)``."""

    deterministic = True
    """``pixels`` gives the same result whatever its key, so a loader may keep it."""

    def __init__(self, config: PreprocessOptions) -> None:
        self.config = self.input = config = config.resolve()
        self.fill = tuple(round(value / config.rescale) for value in _expand(config.mean, config.channels))
        self._divisor = 1 / config.rescale
        self._mean = torch.tensor(config.mean).reshape(-1, 1, 1)
        self._std = torch.tensor(config.std).reshape(-1, 1, 1)

    def __call__(self, image: Picture) -> Tensor:
        return self.finish(self.pixels(image)[None])[0]

    def needed_side(self, size: tuple[int, int], key: int) -> int | None:
        """None: what is measured is decoded in full."""
        return None

    def pixels(self, image: Picture, key: int = 0, size: tuple[int, int] | None = None) -> Tensor:
        """The image at the input size: uint8 (C, H, W)."""
        return to_pixels(self.fit(image))

    def fit(self, image: Picture) -> Picture:
        """The image at the input size, by ``config.resize``.

        Raises:
            UserError: an image with another channel count than the model's.
        """
        image = self.checked(image)
        return image if self.config.resize == "none" else map_bands(image, self._fit, self.fill)

    def finish(self, pixels: Tensor, keys: Keys | None = None) -> Tensor:
        """Rescale and normalise (B, C, H, W), uint8 or float in the same range, to float32.

        Dividing by 255 in float32 gives, for all 256 grey levels, the very numbers of the other libraries' arithmetic.
        """
        images = pixels.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        return images.div_(self._divisor).sub_(self._mean).div_(self._std)

    def checked(self, image: Picture) -> Picture:
        """The image itself, if its channel count is the model's."""
        channels = len(image) if isinstance(image, Tensor) else _MODES.get(image.mode, 0)
        if channels != self.config.channels:
            kind = f"{channels} channels" if channels else f"mode {image.mode}"
            raise UserError(
                f"an image with {kind} for a model of {self.config.channels} channels; "
                "decode it with vitrail.data.decode(data, channels)"
            )
        return image

    def stretch(
        self,
        image: Picture,
        size: tuple[int, int] | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> Picture:
        """The image at this (height, width), default the input size, its aspect ratio given up.

        Args:
            box: the part to take: left, top, right, bottom in pixels; None: the entire image.
        """
        return map_bands(image, lambda band, _: self._resize(band, size or self.config.size, box), self.fill)

    @property
    def sufficient(self) -> int:
        """How long the sides of an image need be: twice what it is resized to at most, a longer one may come halved."""
        return 2 * max(math.floor(length / self.config.crop_pct) for length in self.config.size)

    def region(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of an image of this (height, width) that is the model's input: left, top, right, bottom in pixels.

        It goes beyond the image where a border is added.
        """
        if self.config.resize == "none":
            return 0, 0, size[1], size[0]
        resized = self.resized(size)
        scales = size[0] / resized[0], size[1] / resized[1]
        starts = [self._offset(length, wanted) for length, wanted in zip(resized, self.config.size, strict=True)]
        top, left = (start * scale for start, scale in zip(starts, scales, strict=True))
        return left, top, left + self.config.size[1] * scales[1], top + self.config.size[0] * scales[0]

    def geometry(self, size: tuple[int, int]) -> ImageGeometry:
        """Where the input's pixels lie in an image of this (height, width)."""
        return ImageGeometry(self.region(size), size if self.config.resize == "none" else self.config.size, size)

    def padding(self, geometries: Sequence[ImageGeometry]) -> tuple[Tensor, ...]:
        """Which pixels of inputs lie beyond their images, bool (B, H, W); () where none can."""
        return (torch.stack([each.padding() for each in geometries]),) if self.config.resize == "pad" else ()

    def _fit(self, image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
        if self.config.resize == "crop":
            image = _without_far_ends(image)
        resized = self._resize(image, self.resized((image.height, image.width)))
        return self._centre(resized, fill if self.config.resize == "pad" else None)

    def resized(self, size: tuple[int, int], factor: float = 1) -> tuple[int, int]:
        """(height, width) that an image of this (height, width) is resized to, before the centre is taken.

        Args:
            factor: of another (height, width) than in inference.
        """
        target = tuple(max(math.floor(length / self.config.crop_pct * factor), 1) for length in self.config.size)
        if self.config.resize == "square":
            return target[0], target[1]
        fit = _cover if self.config.resize == "crop" else _contain
        return fit(size, (target[0], target[1]))

    def _resize(
        self, image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
    ) -> Image.Image:
        if box is None and (image.height, image.width) == size:
            return image
        return image.resize((size[1], size[0]), Image.Resampling[self.config.interpolation.upper()], box)

    def _centre(self, image: Image.Image, fill: tuple[int, ...] | None) -> Image.Image:
        """The central part of the size, bordered with ``fill`` (black if None) where the image is smaller."""
        size = self.config.size
        top, left = self._offset(image.height, size[0]), self._offset(image.width, size[1])
        if fill is None or (image.height >= size[0] and image.width >= size[1]):
            return image.crop((left, top, left + size[1], top + size[0]))
        canvas = Image.new(image.mode, (size[1], size[0]), fill if len(fill) > 1 else fill[0])
        canvas.paste(image, (-left, -top))
        return canvas

    def _offset(self, length: int, wanted: int) -> int:
        """Where the central ``wanted`` pixels begin; negative where a border is due before them."""
        if wanted > length:
            return 0 if self.config.border == "end" else -((wanted - length) // 2)
        margin = length - wanted
        return margin // 2 if self.config.crop_rounding == "down" else round(margin / 2)


def map_bands(
    image: Picture, function: Callable[[Image.Image, tuple[int, ...]], Image.Image], fill: tuple[int, ...]
) -> Picture:
    """``function(image, fill)`` for a Pillow image; for a tensor, on each channel as a grey image with its own fill."""
    if isinstance(image, Image.Image):
        return function(image, fill)
    bands = (function(Image.fromarray(band.numpy()), (f,)) for band, f in zip(image, fill, strict=True))
    return torch.stack([torch.from_numpy(np.array(band)) for band in bands])


def size_of(image: Picture | WindowedTiff) -> tuple[int, int]:
    """(height, width)."""
    return (image.height, image.width) if isinstance(image, Image.Image) else (image.shape[-2], image.shape[-1])


def to_pixels(image: Picture) -> Tensor:
    """uint8 (C, H, W)."""
    if isinstance(image, Tensor):
        return image
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def to_pillow(image: Picture) -> Image.Image:
    """A Pillow image, of a tensor with 1 or 3 channels too."""
    if isinstance(image, Image.Image):
        return image
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy() if len(image) > 1 else image[0].numpy())


def _expand(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _cover(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The size with the same aspect that just covers the target; rounding as timm (torchvision's for a square)."""
    height, width = size
    if target[0] == target[1]:
        side = target[0]
        return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
    ratio = min(height / target[0], width / target[1])
    return round(height / ratio), round(width / ratio)


def _contain(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The size with the same aspect that just fits into the target."""
    ratio = max(size[0] / target[0], size[1] / target[1])
    return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))


def _without_far_ends(image: Image.Image, longest: int = LONGEST) -> Image.Image:
    """A strip of more than 16:1 shortened about its centre: 1 × 10000 pixels would cover 224 × 2240000 otherwise."""
    short = min(image.height, image.width)
    top, left = (max(0, (length - longest * short) // 2) for length in (image.height, image.width))
    return image.crop((left, top, image.width - left, image.height - top)) if top or left else image
