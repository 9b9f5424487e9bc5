"""RandAugment (Cubuk et al. 2020): a few operations on one image, drawn from a table, at about one magnitude.

Two tables, of Pillow's operations: timm's, each of which changes more the larger the magnitude, and TensorFlow's, which
big_vision trains with. Images are of mode L or RGB; levels are magnitudes divided by 10; all draws are from torch's
global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

LARGEST = 10.0  # magnitude


class Canvas(NamedTuple):
    """How an image is moved: the colour of what comes into view, a number for each channel, and the resampling
    (nearest, bilinear or bicubic)."""

    fill: tuple[int, ...]
    resample: Image.Resampling


Operation: TypeAlias = Callable[[Image.Image, float, int, Canvas], Image.Image]
"""(image, level from 0 to 1, sign 1 or -1, canvas) → the changed image, of the same size."""


class RandAugment:
    """``num_ops`` draws from a table, with replacement; each is skipped at times.

    Args:
        table: a name of :data:`TABLES`.
        magnitude: from 0 to 10.
        magnitude_std: deviation of the normal distribution about it from which each operation's own is drawn.
        op_probability: that an operation which was drawn is applied.
    """

    def __init__(
        self,
        table: str,
        canvas: Canvas,
        *,
        num_ops: int,
        magnitude: float,
        magnitude_std: float,
        op_probability: float,
    ) -> None:
        self.table, self.canvas, self.num_ops = table, canvas, num_ops  # a name, since functions do not travel
        self.magnitude, self.magnitude_std, self.op_probability = magnitude, magnitude_std, op_probability

    def __call__(self, image: Image.Image) -> Image.Image:
        operations = list(TABLES[self.table].values())
        for drawn in torch.randint(len(operations), (self.num_ops,)).tolist():
            skip, turn = torch.rand(2).tolist()
            if skip < self.op_probability:
                image = operations[drawn](image, self._level(), 1 if turn < 0.5 else -1, self.canvas)
        return image

    def _level(self) -> float:
        magnitude = self.magnitude + self.magnitude_std * float(torch.randn(()))
        return min(max(magnitude, 0.0), LARGEST) / LARGEST


def _autocontrast(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    return image.rotate(sign * level * 30, canvas.resample, fillcolor=_colour(canvas))


def _solarize_add(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    """Dark pixels become brighter."""
    added = int(level * 110)
    return _mapped(image, lambda value: min(255, value + added) if value < 128 else value)


def _posterize(bits: Callable[[float], int]) -> Operation:
    """Fewer levels; of 0 bits none is left, which Pillow's own refuses."""
    return lambda image, level, sign, canvas: _mapped(image, lambda value: value & (256 - (1 << 8 - bits(level))))


def _solarize(threshold: Callable[[float], int]) -> Operation:
    return lambda image, level, sign, canvas: ImageOps.solarize(image, threshold(level))


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance], factor: Callable[[float, int], float]) -> Operation:
    return lambda image, level, sign, canvas: kind(image).enhance(factor(level, sign))


def _shear(axis: int) -> Operation:
    """By up to 0.3 pixels a pixel, along x (0) or y (1)."""

    def moved(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
        amount = sign * level * 0.3
        return _affine(image, (1, amount, 0, 0, 1, 0) if axis == 0 else (1, 0, 0, amount, 1, 0), canvas)

    return moved


def _translate(axis: int, largest: float) -> Operation:
    """By up to this share of the width (0) or height (1)."""

    def moved(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
        pixels = sign * level * largest * image.size[axis]
        return _affine(image, (1, 0, pixels, 0, 1, 0) if axis == 0 else (1, 0, 0, 0, 1, pixels), canvas)

    return moved


def _cutout(image: Image.Image, level: float, sign: int, canvas: Canvas) -> Image.Image:
    """A square of up to 80 pixels of 224 about a random point, in the colour of the canvas."""
    x, y = (int(torch.randint(side, ())) for side in image.size)
    radius = [int(level * 40 / 224 * side) for side in image.size]
    image = image.copy()
    if all(radius):
        box = (x - radius[0], y - radius[1], x + radius[0] - 1, y + radius[1] - 1)
        ImageDraw.Draw(image).rectangle(box, fill=_colour(canvas))
    return image


def _mapped(image: Image.Image, function: Callable[[int], int]) -> Image.Image:
    return image.point([function(value) for value in range(256)] * len(image.getbands()))


def _affine(image: Image.Image, inverse: tuple[float, ...], canvas: Canvas) -> Image.Image:
    colour = _colour(canvas)
    return image.transform(image.size, Image.Transform.AFFINE, inverse, canvas.resample, fillcolor=colour)


def _colour(canvas: Canvas) -> int | tuple[int, ...]:
    return canvas.fill if len(canvas.fill) > 1 else canvas.fill[0]


def _table(
    enhanced: Callable[[float, int], float],
    bits: Callable[[float], int],
    threshold: Callable[[float], int],
    translated: float,
) -> dict[str, Operation]:
    enhancers = {
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    return {
        "autocontrast": _autocontrast,
        "equalize": _equalize,
        "invert": _invert,
        "rotate": _rotate,
        "posterize": _posterize(bits),
        "solarize": _solarize(threshold),
        "solarize_add": _solarize_add,
        **{name: _enhance(kind, enhanced) for name, kind in enhancers.items()},
        "shear_x": _shear(0),
        "shear_y": _shear(1),
        "translate_x": _translate(0, translated),
        "translate_y": _translate(1, translated),
    }


TABLES: dict[str, dict[str, Operation]] = {
    # timm's inc1, which DeiT, Swin and MAE's fine-tuning train with
    "randaugment": _table(
        enhanced=lambda level, sign: max(0.1, 1 + sign * level * 0.9),
        bits=lambda level: 4 - int(level * 4),
        threshold=lambda level: 256 - int(level * 256),
        translated=0.45,
    ),
    # TensorFlow's models and big_vision, where lengths are pixels of 224
    "randaugment_tf": _table(
        enhanced=lambda level, sign: level * 1.8 + 0.1,
        bits=lambda level: int(level * 4),
        threshold=lambda level: int(level * 256),
        translated=100 / 224,
    )
    | {"cutout": _cutout},
}
