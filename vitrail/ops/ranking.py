"""How well scores put the samples of a class before all others; equal scores count as equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def auroc(scores: Tensor, present: Tensor) -> Tensor:
    """The probability that a positive is before a negative, half of it where they are equal (the Mann-Whitney U, Hanley
    & McNeil 1982); NaN without a positive or a negative.

    Args:
        scores: (N,), any monotone function of the probability.
        present: (N,) bool.
    """
    values, positive = scores.numpy(), present.numpy()
    negatives, positives = np.sort(values[~positive]), values[positive]
    if not len(negatives) or not len(positives) or np.isnan(values).any():
        return torch.tensor(torch.nan, dtype=torch.float64)
    before, until = (np.searchsorted(negatives, positives, side=side) for side in ("left", "right"))
    return torch.tensor((before + until).mean() / (2 * len(negatives)), dtype=torch.float64)


def average_precision(scores: Tensor, present: Tensor) -> Tensor:
    """Area under the precision-recall steps, Σ (Rₙ − Rₙ₋₁) Pₙ, which is the mean over the positives of the precision
    among all that score no less; NaN without a positive. Arguments as of :func:`auroc`."""
    values, positive = scores.numpy(), present.numpy()
    ordered, positives = np.sort(values), np.sort(values[positive])
    if not len(positives) or np.isnan(values).any():
        return torch.tensor(torch.nan, dtype=torch.float64)
    hits = len(positives) - np.searchsorted(positives, positives)
    chosen = len(ordered) - np.searchsorted(ordered, positives)
    return torch.tensor((hits / chosen).mean(), dtype=torch.float64)


def of_each_class(measure: Callable[[Tensor, Tensor], Tensor], scores: Tensor, present: Tensor) -> Tensor:
    """A measure of every column of scores and presence (N, K) → float64 (K,)."""
    return torch.stack([measure(*column) for column in zip(scores.T, present.T, strict=True)])
