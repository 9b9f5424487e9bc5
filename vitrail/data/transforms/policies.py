"""Augmentation of one image before it is batched: where to crop, and policies of colour and shape.

All of them draw from torch's global generator, which the caller seeds with the sample's key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from PIL import Image, ImageFilter

from vitrail.data.transforms.preprocess import Interpolation
from vitrail.data.transforms.randaugment import TABLES, Canvas, RandAugment

Box: TypeAlias = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""

Range: TypeAlias = tuple[float, float]
Policy: TypeAlias = Literal[
    "none", "randaugment", "randaugment_tf", "autoaugment", "autoaugment_cifar", "trivial", "three"
]


def resized_crop(height: int, width: int, area: Range, aspect: Range) -> Box:
    """The box of torchvision's RandomResizedCrop: log-uniform aspect (width / height), 10 tries."""
    from torchvision.transforms import RandomResizedCrop

    shape_only = torch.empty(1).expand(1, height, width)
    top, left, h, w = RandomResizedCrop.get_params(shape_only, list(area), list(aspect))
    return top, left, h, w


def inception_crop(height: int, width: int, area: Range, aspect: Range) -> Box:
    """The box of the original Inception crop (TensorFlow's sample_distorted_bounding_box).

    The aspect (width / height) is drawn linearly, then the height uniformly among all that keep the area within its
    range and the box within the image; after 100 failures it is the entire image.
    """
    smallest, largest = (share * height * width for share in area)
    for _ in range(100):
        ratio = float(torch.empty(()).uniform_(*aspect))
        low = round(math.sqrt(smallest / ratio))
        high = min(round(math.sqrt(largest / ratio)), height, int((width + 0.5) / ratio))
        h = min(low, high) + int(torch.randint(max(high - low, 0) + 1, ()))
        w = round(h * ratio)
        if 0 < h <= height and 0 < w <= width and smallest <= h * w <= largest:
            top, left = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
            return top, left, h, w
    return 0, 0, height, width


CROPS: dict[str, Callable[[int, int, Range, Range], Box]] = {"resized": resized_crop, "inception": inception_crop}
# What Pillow moves images by, for what it resizes them by; all others: bilinear
MOVES: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.BICUBIC,
}


def policy(
    name: Policy,
    *,
    num_ops: int,
    magnitude: float,
    magnitude_std: float,
    op_probability: float,
    fill: tuple[int, ...],
    interpolation: Interpolation,
) -> Callable[[Image.Image], Image.Image] | None:
    """The named policy for images of 1 or 3 channels, as many as ``fill`` has.

    The other settings are those of :class:`vitrail.data.transforms.randaugment.RandAugment`.
    """
    if name == "none":
        return None
    if name in TABLES:
        return RandAugment(
            name,
            Canvas(fill, MOVES.get(interpolation, Image.Resampling.BILINEAR)),
            num_ops=num_ops,
            magnitude=magnitude,
            magnitude_std=magnitude_std,
            op_probability=op_probability,
        )
    from torchvision.transforms import v2

    if name == "three":
        return v2.RandomChoice([v2.Grayscale(len(fill)), v2.RandomSolarize(128, p=1.0), _GaussianBlur()])
    shared: dict[str, Any] = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": list(fill)}
    if name == "trivial":
        return v2.TrivialAugmentWide(**shared)
    table = {"autoaugment": v2.AutoAugmentPolicy.IMAGENET, "autoaugment_cifar": v2.AutoAugmentPolicy.CIFAR10}
    return v2.AutoAugment(table[name], **shared)


class _GaussianBlur:
    """Pillow's blur with a radius of 0.1 … 2 pixels, as in DeiT III (torchvision's would leave and re-enter Pillow)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(float(torch.empty(()).uniform_(0.1, 2.0))))
