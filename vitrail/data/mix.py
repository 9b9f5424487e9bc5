"""Mixup and CutMix: pictures and targets of a batch, blended with those of their neighbours."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from vitrail.config import config
from vitrail.data import draws
from vitrail.errors import UserError

Alpha = Annotated[float, Field(ge=0)]


@config
class MixConfig:
    """Both alphas (of a Beta distribution) 0 means no mixing; both positive means one or the other for each batch."""

    mixup: Alpha = 0.0  # Zhang et al. 2018
    cutmix: Alpha = 0.0  # Yun et al. 2019
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0  # that a batch is mixed at all
    cutmix_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # of the mixed batches, where both are on


class Mix:
    """``Mix(config, kind, num_classes)(images, targets, key)`` blends each sample with the one before it in the batch.

    Class labels become soft targets (B, num_classes), in unmixed batches too; several labels (multi-hot) and numbers
    are blended as they are. Label smoothing stays the loss's: it is linear in the targets, so it commutes with mixing.

    Args:
        kind: the source's, "class", "multilabel" or "number".

    Raises:
        UserError: CutMix of numbers (a patch of a picture carries no known share of a number), mixing without targets.
    """

    def __init__(self, config: MixConfig, kind: str, num_classes: int) -> None:
        if config.cutmix and kind == "number":
            raise UserError("augment.mix.cutmix cannot blend numbers; set augment.mix.cutmix=0 (mixup can)")
        if (config.mixup or config.cutmix) and kind == "none":
            raise UserError("augment.mix needs targets to blend and the images have none; set mixup and cutmix to 0")
        self.config, self.kind, self.num_classes = config, kind, num_classes

    def __bool__(self) -> bool:
        return bool(self.config.mixup or self.config.cutmix)

    def __call__(self, images: Tensor, targets: Tensor, key: int) -> tuple[Tensor, Tensor]:
        if self.kind == "class":
            targets = one_hot(targets, self.num_classes).float()
        with draws.torch_seeded(key):
            if float(torch.rand(())) >= self.config.probability:
                return images, targets
            mixed: tuple[Tensor, Tensor] = self._mixer()(images, targets)
        return mixed

    def _mixer(self) -> Any:
        from torchvision.transforms import v2

        both = self.config.mixup and self.config.cutmix
        if self.config.cutmix and (not both or float(torch.rand(())) < self.config.cutmix_share):
            return v2.CutMix(alpha=self.config.cutmix)
        return v2.MixUp(alpha=self.config.mixup)
