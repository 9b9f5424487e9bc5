"""Buffers that follow the mean of the samples of each step, over all its pieces and processes."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.ops.collective import mean_over_ranks


class StepMean:
    """The mean of the rows that were added since the last move, so that a step counts once in however many pieces."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """B K, without gradient."""
        added = rows.sum(dim=0)
        self._sum, self._count = added if self._sum is None else self._sum + added, self._count + len(rows)

    def move(self, follower: Tensor, share: float) -> None:
        """Move a tensor (K,) in place by a share of the way to the mean; what is not finite is left out."""
        if self._sum is None:
            return
        total = mean_over_ranks(torch.cat((self._sum, self._sum.new_full((1,), self._count))))
        mean = total[:-1] / total[-1]
        follower.lerp_(torch.where(mean.isfinite(), mean, follower), share)
        self._sum, self._count = None, 0
