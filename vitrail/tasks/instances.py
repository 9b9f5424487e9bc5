"""Instance segmentation: objects with their boxes and masks, from the queries of the detector.

Shapes: B images, Q queries, K classes, n objects, (h, w) the grid of the masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.data.batch import Batch
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.instances import Metrics
from vitrail.nn.init import initialise
from vitrail.nn.mask_head import MaskConfig, MaskHead
from vitrail.nn.mask_supervision import MaskLossConfig, MaskSupervision, TrueOutlines
from vitrail.ops import mask_points
from vitrail.ops.grid import Pair
from vitrail.ops.mask_matching import MaskWeights
from vitrail.ops.mask_outputs import pack, unpack
from vitrail.ops.objects import TrueObjects
from vitrail.ops.regions import within
from vitrail.ops.view_merging import merged_views
from vitrail.predictions.objects import Prediction
from vitrail.tasks import detection
from vitrail.tasks.detection import Encoded

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

__all__ = ["Config", "Prediction", "Task"]

WEIGHT = 5.0  # of both losses of the masks (Cheng et al. 2022, Mask2Former, section 4.1)


@config
class Config(detection.Config):
    """Those of detection, and

    Args:
    masks: stride and width of the masks.
    mask_losses: what masks learn, and whether they count in the matching.
    """

    masks: MaskConfig = MaskConfig()
    mask_losses: MaskLossConfig = MaskLossConfig()


class Task(detection.Task):
    """Targets: :class:`~vitrail.data.Objects` with masks. Outputs: as of detection, with masks packed along.

    The last layer's queries have masks, matched as their boxes are unless ``mask_losses`` says otherwise.
    """

    monitor: ClassVar[str] = "mask_ap"
    takes: ClassVar[tuple[str, ...]] = ("masks",)
    shaping: ClassVar[tuple[str, ...]] = (*detection.Task.shaping, "masks")
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.masks = MaskHead(config.model.channels, config.model.dim, config.decoder.dim, config.masks)
        initialise(self.masks)

    def metrics(self) -> Metrics:
        """COCO's average precision of boxes and of masks."""
        return Metrics(self.config.classes, self.config.ranking)

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """As of detection, each with the mask of its query."""
        parts = unpack(outputs.detach().float().cpu(), len(self.config.classes) + 4)
        predictions = []
        for row, logits, geometry in zip(*parts, geometries, strict=True):
            found = self._found(row)
            masks = np.zeros((len(found.query), *geometry.original), bool)
            for place, mask in enumerate(geometry.original_masks(logits[found.query])):
                masks[place] = mask.numpy()
            predictions.append(dataclasses.replace(self._predicted(found, geometry), masks=masks))
        return predictions

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Prediction:
        """As of detection, each with its mask, of which pixels that several tiles show are decided by the surest."""
        objects, parts = self.metrics().placed(found, grid, self.config.threshold)
        masks = np.zeros((len(parts), *grid.size), bool)  # memory that nothing is painted on is never taken
        for mask, part in zip(masks, parts, strict=True):
            part.paint(mask)
        labels, scores, boxes = (part.numpy() for part in objects[:3])
        return Prediction(self.config.classes, labels, scores, boxes, grid.size, masks)

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """As of detection, each object with the mask of its surest query."""
        objects, masks = zip(*(unpack(each, len(self.config.classes) + 4) for each in outputs), strict=True)
        found = merged_views(objects, mirrored, size)
        every = torch.cat([each.flip(-1) if turned else each for each, turned in zip(masks, mirrored, strict=True)], 1)
        image = torch.arange(len(every), device=every.device)[:, None]
        return pack(found.rows, every[image, found.query])

    def output_parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """Scores, boxes and logits of masks."""
        objects, masks = unpack(outputs, len(self.config.classes) + 4)
        return super().output_parts(objects) | {"masks": masks}

    def _outputs(self, x: Tensor, boxes: Tensor, encoded: Encoded) -> Tensor:
        masks = self.masks(x, encoded.images, encoded.features.map, encoded.padding)
        return pack(super()._outputs(x, boxes, encoded), masks)

    def _further(self, encoded: Encoded, batch: Batch) -> MaskSupervision:
        config, targets = self.config.mask_losses, cast("Sequence[TrueObjects]", batch["targets"])
        device = encoded.images.device
        found = [within(target, own)[1] for target, own in zip(targets, encoded.region.cpu(), strict=True)]
        masks, known = masks_of(targets, encoded.region).to(device), outlined_of(targets, encoded.region).to(device)
        truth = TrueOutlines(masks, known, tuple(int(wanted.sum()) for wanted in found))
        pixels = self.masks.pixels(encoded.images, encoded.features.map, encoded.padding)
        points = None if config.points is None else _points(config.points, batch, encoded.region)
        return MaskSupervision(self.masks, pixels, truth, MaskWeights(0, WEIGHT, WEIGHT), config, points)


def _points(count: int, batch: Batch, region: Tensor) -> Tensor:
    """Where masks of each image may be compared, by its key: (B, candidates, 2)."""
    assert "keys" in batch, "a batch of training has keys"
    keys, number = batch["keys"].numpy().view(np.uint64), mask_points.num_candidates(count)
    draws = torch.from_numpy(keyed_random.uniform(keys, "mask points", 2 * number)).unflatten(1, (number, 2))
    height, width = batch["images"].shape[-2:]
    return mask_points.within(draws.float().to(region.device), region, (height, width))


def masks_of(targets: Sequence[TrueObjects], region: Tensor) -> Tensor:
    """The masks of the objects to find, image after image, bool (n, H, W)."""
    pairs = zip(targets, region.cpu(), strict=True)
    found = []
    for target, own in pairs:
        assert target.masks is not None, "instance segmentation learns from masks"
        found.append(target.masks.cpu()[within(target, own)[1]])
    return torch.cat(found)


def outlined_of(targets: Sequence[TrueObjects], region: Tensor) -> Tensor:
    """Of the same objects, whose masks are known, bool (n,)."""
    found = []
    for target, own in zip(targets, region.cpu(), strict=True):
        wanted = within(target, own)[1]
        found.append(torch.ones_like(wanted)[wanted] if target.outlined is None else target.outlined.cpu()[wanted])
    return torch.cat(found)
