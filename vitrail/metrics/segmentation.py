"""A class for every pixel: intersection over union, Dice, accuracy, and how well borders agree.

Shapes: B images, K classes; maps int64 (B, H, W), 255 where the truth is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows, ratio, rows
from vitrail.metrics import Metrics as Base
from vitrail.ops.segmentation_losses import IGNORE
from vitrail.ops.tiles import blended

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

_BAND = 1 << 24  # pixels that are compared at once
TOLERANCE = 0.0075  # of the diagonal, Csurka et al. 2013


class Metrics(Base):
    """From maps of classes, each of its own size, and true maps. Only counts are kept.

    ``compute()`` gives ``miou`` and ``dice`` (means over the classes that occur or are predicted), ``pixel_accuracy``,
    ``class_accuracy`` (mean recall of the classes that occur), and ``boundary_f1``.
    """

    scalars = ("miou", "dice", "pixel_accuracy", "class_accuracy", "boundary_f1")
    headlines: ClassVar[dict[str, Headline]] = {
        "miou": Headline("mean IoU", "{:.4f}"),
        "dice": Headline("mean Dice", "{:.4f}"),
        "pixel_accuracy": Headline("accuracy of pixels", "{:.2%}"),
        "class_accuracy": Headline("mean accuracy of classes", "{:.2%}"),
        "boundary_f1": Headline("F1 of boundaries", "{:.4f}"),
    }

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._counts = torch.zeros(len(self.names), len(self.names) + 1, dtype=torch.int64)  # last: nothing predicted
        self._boundaries: list[float] = []
        self._num_images = 0

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """The likeliest class of each pixel of an image from its logits (K, H, W), uint8 (h, w); 255 where it was cut
        off."""
        pairs = zip(outputs, geometries, strict=True)
        return [geometry.original_labels(logits, IGNORE).cpu() for logits, geometry in pairs]

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Tensor:
        """The same of a picture, whose logits are the blended ones of its tiles."""
        parts = ((each.tile, each.geometry.bands(each.outputs)) for each in found)
        return torch.cat([_likeliest(band).cpu() for band in blended(parts, grid)])

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        pairs = zip(cast("Sequence[Tensor]", rows), cast("Sequence[Tensor]", targets), strict=True)
        for predicted, true in pairs:
            self._add(predicted.cpu(), true.cpu())

    def _add(self, predicted: Tensor, true: Tensor) -> None:
        """One image; where nothing is predicted, it is wrong."""
        assert predicted.shape == true.shape, f"a map {tuple(predicted.shape)} for a true one {tuple(true.shape)}"
        self._num_images += 1
        for some, own in zip(predicted.split(_rows(true)), true.split(_rows(true)), strict=True):
            self._counts += self._counted(some.long(), own.long())
        self._boundaries += boundary_scores(predicted.numpy(), true.numpy())

    def _counted(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Pixels by true and predicted class, as ``_counts``."""
        num_classes, known = len(self.names), true != IGNORE
        pairs = true[known] * (num_classes + 1) + predicted[known].clamp(max=num_classes)
        return torch.bincount(pairs, minlength=self._counts.numel()).view_as(self._counts)

    def compute(self) -> dict[str, float]:
        assert self._num_images, "compute() before the first update()"
        iou, dice, recall = self._per_class()
        boundaries = torch.tensor(self._boundaries, dtype=torch.float64)
        counts = self._counts.double()
        return {
            "miou": iou.nanmean().item(),
            "dice": dice.nanmean().item(),
            "pixel_accuracy": (counts.trace() / counts.sum()).item(),
            "class_accuracy": recall.nanmean().item(),
            "boundary_f1": boundaries.mean().item(),
        }

    def details(self) -> dict[str, Any]:
        """``classes``: rows, whose ``support`` is in pixels."""
        iou, dice, recall = self._per_class()
        precision = ratio(self._counts.diagonal(), self._counts[:, :-1].sum(dim=0))
        parts = {"iou": iou, "dice": dice, "precision": precision, "recall": recall}
        return {"classes": rows(self.names, **parts, support=self._counts.sum(dim=1))}

    @property
    def confusion(self) -> np.ndarray:
        """Pixels int64 (K, K), true classes as rows."""
        return self._counts[:, :-1].numpy()

    def _per_class(self) -> tuple[Tensor, Tensor, Tensor]:
        """IoU, Dice and recall (each K), NaN for a class that neither occurs nor is predicted."""
        counts = self._counts.double()
        both, true, predicted = counts.diagonal(), counts.sum(dim=1), counts[:, :-1].sum(dim=0)
        return both / (true + predicted - both), 2 * both / (true + predicted), both / true


def _likeliest(logits: Tensor) -> Tensor:
    """(K, H, W) → uint8 (H, W)."""
    return logits.max(dim=0).indices.to(torch.uint8)


def boundary_scores(predicted: np.ndarray, true: np.ndarray) -> list[float]:
    """For each class of one image, true or predicted, the F1 of border pixels that lie near one of the other map's
    (Csurka et al. 2013, section 2.2). Where the truth is unknown, there is no border."""
    known = true != IGNORE
    near = max(1.0, TOLERANCE * float(np.hypot(*true.shape)))
    scores = []
    for label in np.setdiff1d(np.union1d(true[known], predicted[known]), [IGNORE]):
        borders = [border((map_ == label) | ~known) & known for map_ in (predicted, true)]
        if not any(each.any() for each in borders):
            continue
        if not all(each.any() for each in borders):
            scores.append(0.0)
            continue
        shares = [_share_near(own, other, near) for own, other in (borders, borders[::-1])]
        scores.append(2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0)
    return scores


def _share_near(own: np.ndarray, other: np.ndarray, near: float) -> float:
    """The share of pixels bool (H, W) of which one of the others lies within ``near``; a band of rows at a time, with
    as many around it as matter."""
    from scipy.ndimage import distance_transform_edt

    step, beyond, hits = _rows(own), math.ceil(near), 0
    for top in range(0, len(own), step):
        first = max(top - beyond, 0)
        around = other[first : top + step + beyond]
        if around.any():
            away = distance_transform_edt(~around)[top - first :][:step]
            hits += int((away[own[top : top + step]] <= near).sum())
    return hits / int(own.sum())


def _rows(map_: Tensor | np.ndarray) -> int:
    """How many rows of a map (H, W) are compared at once."""
    return max(1, _BAND // max(1, map_.shape[1]))


def border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour, to a side, that is outside it; the picture's edge is no border."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
