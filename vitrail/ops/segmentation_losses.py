"""Losses of a class for every pixel. Shapes: B images, K classes; labels int64 (B, H, W), 255 where nobody knows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
"""The label of a pixel of which there is no saying."""


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled pixels of (B, K, H, W), in float32; 0 where there are none."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def cross_entropy_and_dice(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`pixel_cross_entropy` and 1 − mean over the classes of 2 Σ p·y / (Σ p² + Σ y²), sums over the labelled
    pixels of the batch, as in TransUNet (Milletari et al. 2016, equation 1); from one softmax."""
    known = (labels != IGNORE).flatten(1).float()
    own = labels.masked_fill(labels == IGNORE, 0)
    log_probabilities = logits.float().log_softmax(dim=1)
    log_right = log_probabilities.gather(1, own.unsqueeze(1)).flatten(1) * known
    cross_entropy = -log_right.sum() / known.sum().clamp(min=1)

    def by_class(values: Tensor) -> Tensor:
        return values.new_zeros(logits.shape[1]).index_add(0, own.flatten(), (values * known).flatten())

    squares = log_probabilities.exp().square().flatten(2) * known.unsqueeze(1)
    joint, size = by_class(log_right.exp()), squares.sum((0, 2)) + by_class(known)
    return cross_entropy, 1 - ((2 * joint + 1e-5) / (size + 1e-5)).mean()
