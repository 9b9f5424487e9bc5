"""Attention by the cosine of queries and keys, with a learned scale of each head (Liu et al. 2022, Swin V2, 3.2).

Shapes: B images, H heads, T tokens, d width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.init import Initialised

INITIAL, LARGEST = math.log(10), math.log(100)


class UnitKeys(nn.Module):
    """B H T d → vectors of length 1."""

    def forward(self, keys: Tensor) -> Tensor:
        return F.normalize(keys, dim=-1)


class UnitQueries(Initialised):
    """B H T d → vectors whose products with :class:`UnitKeys`, over √d, are the cosine times a scale of at most 100.

    Args:
        head_dim: d.
    """

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.logarithm = nn.Parameter(torch.empty(heads, 1, 1))

    def reset_parameters(self) -> None:
        """A scale of 10."""
        nn.init.constant_(self.logarithm, INITIAL)

    def forward(self, queries: Tensor) -> Tensor:
        scale = self.logarithm.clamp(max=LARGEST).exp() * self.head_dim**0.5
        return F.normalize(queries, dim=-1) * scale.to(queries.dtype)
