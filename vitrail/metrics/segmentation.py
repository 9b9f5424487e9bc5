"""A class for every pixel: intersection over union, Dice, accuracy, and how well borders agree.

Shapes: B images, K classes; maps int64 (B, H, W), 255 where nobody knows the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Metrics as Base
from vitrail.metrics import rows
from vitrail.metrics.classification import confusion
from vitrail.ops.segmentation_losses import IGNORE

TOLERANCE = 0.0075  # of the diagonal, Csurka et al. 2013


class Metrics(Base):
    """From maps of classes, or logits (B, K, H, W), and true maps. Only counts are kept, whatever the number of images.

    ``compute()`` gives ``miou`` and ``dice`` (means over the classes that were met or said), ``pixel_accuracy``,
    ``class_accuracy`` (mean recall of the classes met), and ``boundary_f1``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._counts = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)
        self._boundaries: list[float] = []
        self._num_images = 0

    def kept(self, outputs: Tensor) -> Tensor:
        """The likeliest class of each pixel: a K-th of the logits, and less."""
        return outputs.argmax(dim=1).to(torch.uint8 if outputs.shape[1] <= IGNORE else torch.int32)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add one batch."""
        said = (self.kept(outputs) if outputs.ndim == 4 else outputs).long().cpu()
        true = targets.long().cpu()
        assert said.shape == true.shape, f"maps {tuple(said.shape)} for true ones {tuple(true.shape)}"
        self._num_images += len(said)
        known = true != IGNORE
        self._counts += confusion(true[known], said[known], len(self.names))
        pairs = zip(said.numpy(), true.numpy(), strict=True)
        self._boundaries += [score for pair in pairs for score in boundary_scores(*pair)]

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
        """``classes`` (rows) and ``confusion``, pixels (K, K) with true classes as rows."""
        iou, dice, recall = self._per_class()
        return {
            "classes": rows(self.names, iou=iou, dice=dice, recall=recall, pixels=self._counts.sum(dim=1)),
            "confusion": self._counts.numpy(),
        }

    def _per_class(self) -> tuple[Tensor, Tensor, Tensor]:
        """IoU, Dice and recall (each K), NaN for a class that was neither met nor said."""
        counts = self._counts.double()
        both, true, said = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
        return both / (true + said - both), 2 * both / (true + said), both / true


def boundary_scores(said: np.ndarray, true: np.ndarray) -> list[float]:
    """For each class of one image, met or said, the F1 of border pixels that lie near one of the other map's
    (Csurka et al. 2013, section 2.2). Where nobody knows the truth, there is no border."""
    from scipy.ndimage import distance_transform_edt

    known = true != IGNORE
    near = max(1.0, TOLERANCE * float(np.hypot(*true.shape)))
    scores = []
    for label in np.union1d(true[known], said[known]):
        borders = [border((map_ == label) | ~known) & known for map_ in (said, true)]
        if not any(each.any() for each in borders):
            continue
        if not all(each.any() for each in borders):
            scores.append(0.0)
            continue
        shares = [
            float((distance_transform_edt(~other)[own] <= near).mean()) for own, other in (borders, borders[::-1])
        ]
        scores.append(2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0)
    return scores


def border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour, to a side, that is outside it; the picture's edge is no border."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
