"""Losses of masks, each of one object (Milletari et al. 2016; Cheng et al. 2022, Mask2Former, equation 3).

Shapes: M objects, (h, w) the grid of the masks. Sums are divided by ``num_objects``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mask_cross_entropy(logits: Tensor, truth: Tensor, num_objects: Tensor) -> Tensor:
    """Binary cross-entropy, its mean over a mask's cells summed over the objects: logits and shares (M, h, w)."""
    each = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return each.mean(dim=(1, 2)).sum() / num_objects


def mask_dice(logits: Tensor, truth: Tensor, num_objects: Tensor) -> Tensor:
    """1 − (2 Σ p·y + 1) / (Σ p + Σ y + 1) of each object, summed over the objects."""
    probabilities = logits.float().sigmoid()
    joint, size = (probabilities * truth).sum(dim=(1, 2)), (probabilities + truth).sum(dim=(1, 2))
    return (1 - (2 * joint + 1) / (size + 1)).sum() / num_objects
