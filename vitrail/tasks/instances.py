"""Instance segmentation: objects with their boxes and masks, from the queries of the detector.

Shapes: B images, Q queries, K classes, n objects, (h, w) the grid of the masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.config import config, from_dict, to_dict
from vitrail.metrics.instances import Metrics
from vitrail.nn.dense_heads import resized
from vitrail.nn.init import initialise
from vitrail.nn.mask_head import MaskConfig, MaskHead
from vitrail.ops.detections import ranked
from vitrail.ops.mask_losses import mask_cross_entropy, mask_dice
from vitrail.ops.mask_outputs import pack, unpack
from vitrail.ops.matching import Pairs
from vitrail.ops.patches import Pair
from vitrail.tasks import detection
from vitrail.tasks._objects import Prediction
from vitrail.tasks.detection import Seen, within
from vitrail.vit import ViTConfig

__all__ = ["Config", "Prediction", "Task"]

WEIGHT = 5.0  # of both losses of the masks (Cheng et al. 2022, Mask2Former, section 4.1)


@config
class Config(detection.Config):
    """Those of detection, and

    Args:
    masks: stride and width of the masks.
    """

    masks: MaskConfig = MaskConfig()


class Task(detection.Task):
    """Targets: :class:`~vitrail.data.Objects` with masks. Outputs: as of detection, with masks packed along.

    The last layer's queries have masks, matched as their boxes are.
    """

    monitor: ClassVar[str] = "mask_ap"
    takes = ("masks",)
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.masks = MaskHead(config.model.channels, config.model.dim, config.decoder.dim, config.masks)
        initialise(self.masks)

    @classmethod
    def configure(cls, model: ViTConfig, names: Sequence[str], targets: Any, options: dict[str, Any]) -> Config:
        """Classes are the data's."""
        return from_dict(Config, {**options, "model": to_dict(model), "classes": list(names)})

    def metrics(self) -> Metrics:
        """COCO's average precision of boxes and of masks."""
        return Metrics(self.config.classes)

    def decode(self, outputs: Tensor, size: Pair) -> list[Prediction]:
        """As of detection, with the masks at the size of the input."""
        said = []
        for objects, logits in zip(*unpack(outputs.detach().float().cpu(), len(self.config.classes)), strict=True):
            found = ranked(objects)
            told = self._told(found, size)
            masks = resized(logits[found.query[: len(told)], None], size)[:, 0] > 0
            said.append(dataclasses.replace(told, masks=masks.numpy()))
        return said

    def _answer(self, x: Tensor, boxes: Tensor, seen: Seen) -> Tensor:
        masks = self.masks(x, seen.images, seen.features.map, seen.padding)
        return pack(super()._answer(x, boxes, seen), masks)

    def _further_losses(self, x: Tensor, pairs: Pairs, seen: Seen, targets: Sequence[Any]) -> dict[str, Tensor]:
        own = x[pairs.image, pairs.query]
        logits = self.masks.chosen(own, seen.images, seen.features.map, seen.padding, pairs.image)
        truth = masks_of(targets, seen.region).to(logits.device)[pairs.target]
        shares = F.adaptive_avg_pool2d(truth.float(), (logits.shape[-2], logits.shape[-1]))
        num_objects = max(float(len(truth)), 1.0)
        losses = {"mask": mask_cross_entropy, "dice": mask_dice}
        return {name: WEIGHT * loss(logits, shares, num_objects) for name, loss in losses.items()}


def masks_of(targets: Sequence[Any], region: Tensor) -> Tensor:
    """The masks of the objects to find, image after image, bool (n, H, W)."""
    pairs = zip(targets, region.cpu(), strict=True)
    return torch.cat([target.masks.cpu()[within(target, own)[1]] for target, own in pairs])
