"""Losses on logits (B, K). Targets are class indices (B,) or probabilities (B, K)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def soften(targets: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Class indices or probabilities → smoothed probabilities (B, K): (1 − s)·y + s/K (Szegedy et al. 2016)."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, num_classes).float()
    return targets * (1 - smoothing) + smoothing / num_classes


def cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean softmax cross-entropy in float32.

    Args:
        class_weights: (K,), of the terms of each class; their sum over a batch does not divide, so that the mean over
            batches is that over all images.
    """
    weights = None if class_weights is None else class_weights.float()
    return F.cross_entropy(logits.float(), targets, weights, label_smoothing=smoothing, reduction="none").mean()


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    target_threshold: float | None = None,
    *,
    class_weights: Tensor | None = None,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """One sigmoid a class, averaged over classes and batch (DeiT III, Touvron et al. 2022).

    Args:
        target_threshold: probabilities above it count as 1 and others as 0, before smoothing (timm compares after
            it, which undoes it); None: as they are.
        class_weights: (K,), of each image by its class, for several by their mean.
        positive_weights: (K,), of the term of a class where it is present.
    """
    if target_threshold is not None and targets.is_floating_point():
        targets = targets.gt(target_threshold).to(targets.dtype)
    shares = soften(targets, logits.shape[1])
    targets = soften(targets, logits.shape[1], smoothing)
    weights = None
    if class_weights is not None:
        weights = ((shares @ class_weights.to(shares)) / shares.sum(dim=1).clamp(min=1e-6))[:, None]
    return F.binary_cross_entropy_with_logits(logits.float(), targets, weights, pos_weight=positive_weights)


def log_mean_softmax(logits: Sequence[Tensor]) -> Tensor:
    """Logits (B, K, …), several times → logits whose softmax is the mean of theirs, in float32."""
    return torch.stack([each.float().log_softmax(dim=1) for each in logits]).logsumexp(dim=0) - math.log(len(logits))


def logit_mean_sigmoid(logits: Sequence[Tensor]) -> Tensor:
    """Logits, several times → logits whose sigmoid is the mean of theirs, in float32."""
    stacked = torch.stack([each.float() for each in logits])
    return F.logsigmoid(stacked).logsumexp(dim=0) - F.logsigmoid(-stacked).logsumexp(dim=0)


def balanced_weights(counts: Tensor) -> Tensor:
    """Weights (K,) with which every class counts alike, N / (K nₖ), of mean 1 over the images (King & Zeng 2001).

    Args:
        counts: images of each class (K,); a class without any has the weight 0, and is not among the K.
    """
    counts = counts.double()
    present = counts > 0
    return (counts.sum() / present.sum() / counts.clamp(min=1)).where(present, 0)


def balanced_positive_weights(targets: Tensor) -> Tensor:
    """Weights (K,) with which the images that have a class count as much as those that do not: their ratio; 1 for a
    class that all or none have.

    Args:
        targets: multi-hot (N, K).
    """
    present = (targets > 0.5).double().sum(dim=0)
    absent = len(targets) - present
    return (absent / present.clamp(min=1)).where((present > 0) & (absent > 0), 1)
