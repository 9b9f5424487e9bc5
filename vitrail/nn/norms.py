"""The norms of tokens."""

from __future__ import annotations

from typing import Literal

from torch import nn

NormKind = Literal["layer", "rms"]


def build_norm(kind: NormKind, dim: int, eps: float) -> nn.LayerNorm | nn.RMSNorm:
    """``layer``: LayerNorm (Ba et al. 2016); ``rms``: the root mean square alone, without mean and bias (Zhang &
    Sennrich 2019)."""
    return nn.RMSNorm(dim, eps) if kind == "rms" else nn.LayerNorm(dim, eps)
