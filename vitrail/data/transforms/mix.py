"""Mixup and CutMix: pictures and targets of a batch, blended with others of the batch."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from vitrail.config import config
from vitrail.data import keyed_random
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
        from torchvision.transforms import v2

        if self.kind == "class":
            targets = one_hot(targets, self.num_classes).float()
        chosen, mixup, cutmix = (
            self.config,
            v2.MixUp(alpha=self.config.mixup or 1),
            v2.CutMix(alpha=self.config.cutmix or 1),
        )
        with keyed_random.torch_seeded(key):
            if float(torch.rand(())) >= chosen.probability:
                return images, targets
            if not chosen.cutmix or (chosen.mixup and float(torch.rand(())) >= chosen.cutmix_share):
                own = mixup.make_params([images])["lam"]
                return _blend(images, own), _blend(targets, own)
            drawn = cutmix.make_params([images])
        left, top, right, bottom = drawn["box"]
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = _other(images)[..., top:bottom, left:right]
        return mixed, _blend(targets, drawn["lam_adjusted"])


def _other(rows: Tensor) -> Tensor:
    """The partner of each row."""
    return rows.roll(len(rows) // 2, 0)


def _blend(rows: Tensor, own: float) -> Tensor:
    return _other(rows).mul_(1 - own).add_(rows, alpha=own)
