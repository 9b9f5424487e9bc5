"""Losses on logits (B, K). Targets are class indices (B,) or probabilities (B, K)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soften(targets: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Class indices or probabilities → smoothed probabilities (B, K): (1 − s)·y + s/K (Szegedy et al. 2016)."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, num_classes).float()
    return targets * (1 - smoothing) + smoothing / num_classes


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean softmax cross-entropy in float32."""
    return F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, target_threshold: float | None = None
) -> Tensor:
    """One sigmoid a class, averaged over classes and batch (DeiT III, Touvron et al. 2022).

    Args:
        target_threshold: probabilities above it count as 1 and others as 0, before smoothing (timm compares after
            it, which undoes it); None: as they are.
    """
    if target_threshold is not None and targets.is_floating_point():
        targets = targets.gt(target_threshold).to(targets.dtype)
    targets = soften(targets, logits.shape[1], smoothing)
    return F.binary_cross_entropy_with_logits(logits.float(), targets)
