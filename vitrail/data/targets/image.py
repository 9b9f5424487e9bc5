"""A picture: what a degraded one is to become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL.Image import Resampling
from torch import Tensor

from vitrail.data.map_targets import MapTargets
from vitrail.data.media.decode import BadImage
from vitrail.data.targets import Column, Labels
from vitrail.data.transforms.preprocess import PreprocessConfig, to_pillow

if TYPE_CHECKING:
    from PIL import Image

    from vitrail.data.transforms.restoration import RestorationCrops, RestorationEvaluation
    from vitrail.ops.grid import Pair


FLAT = 6.0  # levels by which a small grey picture varies at least, to be compared
UNRELATED = 0.3  # correlation below which two show something else; noise and blur leave far more of means of parts


class Pictures(MapTargets[Column]):
    """The column has pictures uint8 (C, H, W) by position, whose sides are a multiple of the images'; a batch is uint8
    (B, C, H, W). Where it has none (:class:`vitrail.data.storage.pictures.Themselves`), an image is its own target, and
    what is shown to a model is made of it."""

    wording = "pictures to restore"
    noun = "picture"
    unknown = 0
    made_of_images = True

    def of_images(self, number: int) -> Labels:
        from vitrail.data.storage.pictures import Themselves

        return Labels(self.name, (), Themselves(number))

    def training(self, preprocess: PreprocessConfig) -> RestorationCrops | None:
        from vitrail.data.transforms.restoration import RestorationCrops

        return RestorationCrops(preprocess) if preprocess.resize == "none" else None

    def evaluation(self, preprocess: PreprocessConfig, batch_size: int) -> RestorationEvaluation | None:
        from vitrail.data.transforms.restoration import RestorationEvaluation

        return RestorationEvaluation(preprocess, batch_size) if preprocess.resize == "none" else None

    def describe(self, classes: Sequence[str]) -> str:
        return self.wording

    def joined(self, targets: Sequence[Tensor], corners: Sequence[Pair], size: Pair) -> Tensor:
        canvas = targets[0].new_full((*targets[0].shape[:-2], *size), self.unknown)
        for target, (top, left) in zip(targets, corners, strict=True):
            canvas[..., top : top + target.shape[-2], left : left + target.shape[-1]] = target
        return canvas

    def read(self, column: Sequence[Tensor] | Column, index: int) -> Tensor | None:  # type: ignore[override]
        found = column[index]
        return None if found is None else torch.as_tensor(np.asarray(found))

    def text(self, column: Column, index: int, classes: Sequence[str]) -> str:
        try:
            found = self.read(column, index)
        except BadImage as error:
            return str(error)
        if found is None:
            return "itself"
        height, width = self.size(found)
        return f"{width} × {height} pixels, mean {found.double().mean():.2f}"

    def draw(self, image: Image.Image, target: Tensor | None, classes: Sequence[str]) -> Image.Image:
        return image if target is None else to_pillow(target)

    def faults(self, column: Column, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        try:
            target = self.read(column, index)
        except BadImage as error:
            yield str(error)
            return
        if target is not None and (why := unequal(size, self.size(target))):
            yield why

    def stranger(self, column: Column, index: int, grey: np.ndarray) -> str | None:
        try:
            target = self.read(column, index)
        except BadImage:
            return None  # which ``faults`` says
        if target is None:
            return None
        true = np.asarray(to_pillow(target).convert("L").resize(grey.shape[::-1], Resampling.BOX))
        return None if related(grey, true) else "shows another picture than its true one of the same name; rename them"


def related(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two small grey pictures (T, T) may be of the same; those that hardly vary may."""
    flat = [each.astype(np.float64).ravel() for each in (one, other)]
    return any(each.std() < FLAT for each in flat) or float(np.corrcoef(flat[0], flat[1])[0, 1]) > UNRELATED


def unequal(small: tuple[int, int], large: tuple[int, int], scale: int | None = None) -> str | None:
    """Why pictures of these (height, width) are no pair; None where they are.

    Args:
        scale: how many times as long the sides of the larger one must be; None: the same number of times, 1 to 4.
    """
    factors = {long / short for short, long in zip(small, large, strict=True)}
    if len(factors) == 1 and (factors == {scale} if scale else factors <= {1, 2, 3, 4}):
        return None
    wanted = f"{scale} times that" if scale else "1, 2, 3 or 4 times that"
    return f"has {small[1]} × {small[0]} pixels, and its true picture {large[1]} × {large[0]}, which is not {wanted}"


KIND = Pictures("image")
