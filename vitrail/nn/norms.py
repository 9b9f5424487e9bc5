"""The norms of tokens."""

from __future__ import annotations

from typing import Literal

from torch import nn

NormKind = Literal["layer", "rms"]


def build_norm(kind: NormKind, dim: int, eps: float, affine: bool = True) -> nn.LayerNorm | nn.RMSNorm:
    """``layer``: LayerNorm (Ba et al. 2016); ``rms``: the root mean square alone, without mean and bias (Zhang &
    Sennrich 2019).

    Args:
        affine: a learned factor for each channel, and of LayerNorm a bias.
    """
    if kind == "rms":
        return nn.RMSNorm(dim, eps, elementwise_affine=affine)
    return nn.LayerNorm(dim, eps, elementwise_affine=affine)
