"""Collective operations with gradients. With one process each function is the identity.

DDP averages gradients over the ranks, so a rank's loss is the mean over its own samples, and these backward passes
give each rank what makes that average the gradient of the mean over all samples.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The index of this process."""
    return dist.get_rank() if num_ranks() > 1 else 0


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of every rank's ``value``; gradients flow."""
    return value if num_ranks() == 1 else _Mean.apply(value)


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, (R·B, …), rank by rank; each rank has the same number, and gradients flow."""
    return rows if num_ranks() == 1 else _Gather.apply(rows)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return _summed(value) / num_ranks()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient) / num_ranks()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(num_ranks())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient).chunk(num_ranks())[rank()]


def _summed(value: Tensor) -> Tensor:
    value = value.contiguous().clone()
    dist.all_reduce(value)
    return value
