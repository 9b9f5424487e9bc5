"""Training augmentation, in the same two halves as the inference preprocessing that it extends.

``pixels`` crops one image and applies a policy to it; ``finish`` crops windows, recolours, flips, shifts, warps,
normalises and erases a batch. Every draw depends on the sample's key alone.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BeforeValidator, Field, PositiveInt
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.data.keyed_random import Keys
from vitrail.data.transforms import batched, policies
from vitrail.data.transforms.batched import AffineConfig, ErasingConfig, PositiveRange
from vitrail.data.transforms.colour import ColourConfig, recolour
from vitrail.data.transforms.mix import MixConfig
from vitrail.data.transforms.policies import Policy
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of, to_pillow, to_pixels
from vitrail.data.transforms.randaugment import LARGEST
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.grid import Pair

Probability = Annotated[float, Field(ge=0, le=1)]


@config
class AugmentConfig:
    """What happens to training images, in this order. The default does nothing: images are prepared as for inference.

    Attributes:
        crop: ``resized`` is torchvision's RandomResizedCrop, ``inception`` the original; ``none`` resizes as inference;
            ``window`` crops the resized image, for an entire batch: for small images, which then stay in memory.
        area, aspect: of the crop: its share of the image, and width / height.
        policy: a learned or random choice of colour and shape operations: ``randaugment`` of timm's, with the default
            numbers its rand-m9-mstd0.5-inc1; ``randaugment_tf`` of TensorFlow's; ``three`` is DeiT III's 3-Augment.
        num_ops, magnitude, magnitude_std, op_probability: RandAugment's: how many operations are drawn, their magnitude
            from 0 to 10 and its deviation, and the probability that one is applied.
        shift: a random crop after padding by this many pixels.
        repeats: how many times an image comes in a row (repeated augmentation).
    """

    crop: Literal["none", "resized", "inception", "window"] = "none"
    area: PositiveRange = (0.08, 1.0)
    aspect: PositiveRange = (3 / 4, 4 / 3)
    policy: Policy = "none"
    num_ops: PositiveInt = 2
    magnitude: Annotated[float, Field(ge=0, le=LARGEST)] = 9.0
    magnitude_std: Annotated[float, Field(ge=0)] = 0.5
    op_probability: Probability = 0.5
    colour: ColourConfig = ColourConfig()
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    shift: Annotated[int, Field(ge=0)] = 0
    affine: AffineConfig | None = None
    erasing: ErasingConfig | None = None
    mix: MixConfig = MixConfig()
    repeats: PositiveInt = 1


PRESETS: dict[str, AugmentConfig] = {
    "none": AugmentConfig(),
    # mirrored crops, the usual for photographs and fine-tuning
    "light": AugmentConfig(crop="resized", area=(0.35, 1.0), horizontal_flip=0.5),
    # handwriting: nothing mirrored, a gentle warp
    "digits": AugmentConfig(
        affine=AffineConfig(degrees=10, translate=0.1, scale=(0.9, 1.1), shear=5), mix=MixConfig(mixup=0.2)
    ),
    # small pictures such as CIFAR's
    "small": AugmentConfig(horizontal_flip=0.5, shift=4, erasing=ErasingConfig()),
    # big_vision's plain ViT-S/16 baseline
    "plain": AugmentConfig(
        crop="inception", area=(0.05, 1.0), aspect=(0.75, 1.33), policy="randaugment_tf", magnitude=10,
        magnitude_std=0, op_probability=1, horizontal_flip=0.5, mix=MixConfig(mixup=0.2),
    ),
    # as trained: where RandAugment is on, timm drops the colour jitter that DeiT's command line names
    "deit": AugmentConfig(
        crop="resized", policy="randaugment", horizontal_flip=0.5, erasing=ErasingConfig(),
        mix=MixConfig(mixup=0.8, cutmix=1.0), repeats=3,
    ),
    "deit3": AugmentConfig(
        crop="resized", policy="three", colour=ColourConfig(jitter=(0.3, 0.3, 0.3, 0.0)), horizontal_flip=0.5,
        mix=MixConfig(mixup=0.8, cutmix=1.0), repeats=3,
    ),
}  # fmt: skip


def augmentation(name: str) -> AugmentConfig:
    """The preset of that name.

    Raises:
        UserError: no such preset, with the closest name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown augmentation {name!r}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def _by_name(value: Any) -> Any:
    return augmentation(value) if isinstance(value, str) else value


Augmentation = Annotated[AugmentConfig, BeforeValidator(_by_name)]
"""An AugmentConfig that may be written as a preset's name."""


class Augment:
    """``Augment(config, preprocess)(image, key) -> float32 (C, H, W)``; the batch's ``mix`` is the loader's.

    Raises:
        UserError: a colour policy for images that are neither grey nor RGB.
    """

    def __init__(self, config: AugmentConfig, preprocess: PreprocessConfig) -> None:
        self.config = config
        self.input = preprocess
        self.preprocess = Preprocess(preprocess)
        channels = preprocess.channels
        if channels not in (1, 3) and (config.policy != "none" or config.colour):
            name = "augment.colour" if config.colour else f"augment.policy={config.policy}"
            raise UserError(
                f"{name} needs images of 1 or 3 channels, not {channels}; set policy=none and colour to zeros"
            )
        self._policy = policies.policy(
            config.policy,
            num_ops=config.num_ops,
            magnitude=config.magnitude,
            magnitude_std=config.magnitude_std,
            op_probability=config.op_probability,
            fill=self.preprocess.fill,
            interpolation=preprocess.interpolation,
        )
        self.deterministic = config.crop in ("none", "window") and self._policy is None

    def __call__(self, image: Picture, key: int = 0) -> Tensor:
        return self.finish(self.pixels(image, key)[None], np.array([key], dtype=np.uint64))[0]

    def needed_side(self, size: Pair, key: int) -> int:
        """How long the sides of an image of this (height, width) need be: its crop has twice the input's sides then."""
        if self.config.crop in ("none", "window"):
            return self.preprocess.sufficient
        with keyed_random.torch_seeded(key):
            _, _, height, width = self._crop(size)
        rows, columns = self.input.size
        return math.ceil(2 * min(size) * max(rows / height, columns / width))

    def pixels(self, image: Picture, key: int = 0, size: Pair | None = None) -> Tensor:
        """The image at the input size, cropped and changed by the policy: uint8 (C, H, W).

        Args:
            size: (height, width) of the image in full, if it was decoded at a fraction of it.
        """
        if self.deterministic:
            return self.preprocess.pixels(image)
        with keyed_random.torch_seeded(key):
            image = self._cropped(image, size)
            if self._policy is not None:
                image = self._policy(to_pillow(image))
        return to_pixels(image)

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """Window, colours, flips, shift and affine map on uint8 (B, C, H, W), then float32 normalised, then erasing."""
        config = self.config
        if config.crop == "window":
            pixels = batched.window(pixels.float(), keys, config.area, config.aspect, self.input.size)
        if config.colour:
            pixels = recolour(pixels.float(), keys, config.colour)
        if config.horizontal_flip:
            pixels = batched.flip(pixels, keys, config.horizontal_flip, axis="horizontal")
        if config.vertical_flip:
            pixels = batched.flip(pixels, keys, config.vertical_flip, axis="vertical")
        if config.shift:
            pixels = batched.shift(pixels, keys, config.shift)
        if config.affine is not None:
            pixels = batched.affine(pixels.float(), keys, config.affine)
        images = self.preprocess.finish(pixels)
        return images if config.erasing is None else batched.erase(images, keys, config.erasing)

    def _crop(self, size: Pair) -> policies.Box:
        return policies.CROPS[self.config.crop](*size, self.config.area, self.config.aspect)

    def _cropped(self, image: Picture, whole: Pair | None) -> Picture:
        if self.config.crop in ("none", "window"):
            return self.preprocess.fit(image)
        self.preprocess.checked(image)
        size = size_of(image)
        top, left, h, w = self._crop(whole or size)
        if isinstance(image, Image.Image):
            if whole is not None and size != whole:
                y, x = (own / full for own, full in zip(size, whole, strict=True))
                return self.preprocess.stretch(image, box=(left * x, top * y, (left + w) * x, (top + h) * y))
            return self.preprocess.stretch(image.crop((left, top, left + w, top + h)))
        return self.preprocess.stretch(image[:, top : top + h, left : left + w].contiguous())
