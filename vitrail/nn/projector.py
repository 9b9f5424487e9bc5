"""The projection head of contrastive methods, discarded after pretraining. B batch, D width."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vitrail.ops.collective import mean_over_ranks


class BatchStandardise(nn.Module):
    """Batch normalisation by the statistics of the batch over all processes, in training and evaluation.

    Args:
        affine: learn a scale and a shift.
    """

    def __init__(self, dim: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """B D → B D, in float32."""
        x = x.float()
        mean = mean_over_ranks(x.mean(dim=0))
        centred = x - mean
        x = centred * (mean_over_ranks(centred.square().mean(dim=0)) + self.eps).rsqrt()
        return x if self.weight is None or self.bias is None else x * self.weight + self.bias


class Projector(nn.Sequential):
    """Linear layers without bias, each standardised over the batch, with ReLU between them.

    Args:
        dims: widths from input to output.
        last_affine: a scale and a shift after the last layer too.
    """

    def __init__(self, *dims: int, last_affine: bool = False) -> None:
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(dims)):
            last = place == len(dims) - 2
            layers += [nn.Linear(before, after, bias=False), BatchStandardise(after, affine=not last or last_affine)]
            layers += [] if last else [nn.ReLU()]
        super().__init__(*layers)
