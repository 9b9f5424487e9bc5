"""Several views of each image in one batch: the crops of contrastive learning and self-distillation.

V views of an image stand in the batch as ``view0`` … ``view{V-1}``, each float32 (B, C, h, w).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.data.keyed_random import Keys
from vitrail.data.transforms.augment import Augment, Augmentation, AugmentConfig
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig
from vitrail.ops.grid import Pair


@config
class ViewConfig:
    """Views that are made alike.

    Attributes:
        scale: their side as a share of the input's.
        multiple: their side is rounded to a multiple of so many pixels, which the patch size must divide.
    """

    augment: Augmentation = Field(default_factory=AugmentConfig)
    count: PositiveInt = 1
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    multiple: PositiveInt = 1

    def size(self, whole: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a view of an input of that size."""
        if self.scale == 1:
            return whole
        height, width = (max(1, round(side * self.scale / self.multiple)) * self.multiple for side in whole)
        return height, width


class Views:
    """A transform of the loader that makes all views of an image.

    Where every view is a window of the resized image, that image alone is the first half, and may stay in memory;
    else each view is cropped from the original, and the first half holds the bytes of all, one after the other.
    """

    def __init__(self, views: tuple[ViewConfig, ...], preprocess: PreprocessConfig) -> None:
        self.input = preprocess
        self.augments = [
            Augment(view.augment, replace(preprocess, size=view.size(preprocess.size)))
            for view in views
            for _ in range(view.count)
        ]
        self.deterministic = all(augment.config.crop == "window" for augment in self.augments) and all(
            augment.deterministic for augment in self.augments
        )
        self._preprocess = Preprocess(preprocess)

    def needed_side(self, size: Pair, key: int) -> int:
        """How long the sides of an image of this (height, width) need be for all views."""
        if self.deterministic:
            return self._preprocess.sufficient
        return max(augment.needed_side(size, own) for augment, own in self._keyed(key))

    def pixels(self, image: Picture, key: int = 0, size: Pair | None = None) -> Tensor:
        """uint8: (C, H, W) where :attr:`deterministic`, else (bytes of all views,); ``size`` as of ``Augment``."""
        if self.deterministic:
            return self._preprocess.pixels(image)
        return torch.cat([augment.pixels(image, own, size).flatten() for augment, own in self._keyed(key)])

    def finish(self, pixels: Tensor, keys: Keys) -> dict[str, Tensor]:
        """The views by name."""
        shapes = [(self.input.channels, *augment.input.size) for augment in self.augments]
        if self.deterministic:
            parts = [pixels] * len(self.augments)
        else:
            pieces = pixels.split([int(np.prod(shape)) for shape in shapes], dim=1)
            parts = [piece.unflatten(1, shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return {
            f"view{view}": augment.finish(part, self._keys(keys, view))
            for view, (augment, part) in enumerate(zip(self.augments, parts, strict=True))
        }

    def _keyed(self, key: int) -> list[tuple[Augment, int]]:
        """Each view's augmentation with its own key."""
        keys = np.array([key], dtype=np.uint64)
        return [(augment, int(self._keys(keys, view)[0])) for view, augment in enumerate(self.augments)]

    def _keys(self, keys: Keys, view: int) -> Keys:
        return keyed_random.salted(keys, f"view {view}")
