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


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 − mean over the classes of 2 Σ p·y / (Σ p² + Σ y²), sums over the labelled pixels of the batch, as in TransUNet
    (Milletari et al. 2016, equation 1)."""
    known = labels != IGNORE
    probabilities = logits.float().softmax(dim=1) * known.unsqueeze(1)
    own = labels.masked_fill(~known, 0)
    truth = F.one_hot(own, logits.shape[1]).flatten(0, 2).float() * known.reshape(-1, 1)
    right = probabilities.gather(1, own.unsqueeze(1)).flatten()
    joint, size = right @ truth, probabilities.square().sum((0, 2, 3)) + truth.sum(0)
    return 1 - ((2 * joint + 1e-5) / (size + 1e-5)).mean()
