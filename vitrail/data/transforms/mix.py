"""Mixup and CutMix: pictures and targets of a batch, blended with others of the batch."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random, targets
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
    """``Mix(config, kind, num_classes)(images, targets, key)`` blends each sample with the one half a batch before it.

    Where ranks have every n-th sample of a batch each, in even numbers, that is the same partner as in one process.

    Class labels become soft targets (B, num_classes), in unmixed batches too; several labels (multi-hot) and numbers
    are blended as they are. Label smoothing stays the loss's: it is linear in the targets, so it commutes with mixing.

    Args:
        kind: the name of the target kind.

    Raises:
        UserError: targets of this kind cannot be blended so.
    """

    def __init__(self, config: MixConfig, kind: str, num_classes: int) -> None:
        self.config, self.kind, self.num_classes = config, targets.load(kind), num_classes
        if fault := self.kind.mix_fault(mixup=config.mixup > 0, cutmix=config.cutmix > 0):
            raise UserError(fault)

    def __bool__(self) -> bool:
        return bool(self.config.mixup or self.config.cutmix)

    def __call__(self, images: Tensor, labels: Tensor, key: int) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2

        blendable = self.kind.blendable(labels, self.num_classes)
        chosen, mixup, cutmix = (
            self.config,
            v2.MixUp(alpha=self.config.mixup or 1),
            v2.CutMix(alpha=self.config.cutmix or 1),
        )
        with keyed_random.torch_seeded(key):
            if float(torch.rand(())) >= chosen.probability:
                return images, blendable
            if not chosen.cutmix or (chosen.mixup and float(torch.rand(())) >= chosen.cutmix_share):
                own = mixup.make_params([images])["lam"]
                return _blend(images, own), _blend(blendable, own)
            drawn = cutmix.make_params([images])
        left, top, right, bottom = drawn["box"]
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = _other(images)[..., top:bottom, left:right]
        return mixed, _blend(blendable, drawn["lam_adjusted"])


def _other(rows: Tensor) -> Tensor:
    """The partner of each row."""
    return rows.roll(len(rows) // 2, 0)


def _blend(rows: Tensor, own: float) -> Tensor:
    return _other(rows).mul_(1 - own).add_(rows, alpha=own)
