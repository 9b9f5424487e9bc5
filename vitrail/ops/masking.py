"""Which patches a model sees. B batch, N patches, K of them kept, D width."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Mask(NamedTuple):
    """A choice of patches.

    Attributes:
        kept: int64 (B, K), which patches stay, in their shuffled order.
        restore: int64 (B, N), where each patch stands in (kept, then hidden).
        hidden: bool (B, N), true where a patch is not seen.
    """

    kept: Tensor
    restore: Tensor
    hidden: Tensor


def mask_by_noise(noise: Tensor, ratio: float) -> Mask:
    """Hide the patches of the highest noise (He et al. 2022, MAE).

    Args:
        noise: (B, N), one independent draw a patch.
        ratio: share to hide; ⌊N · (1 − ratio)⌋ patches stay.
    """
    shuffled = noise.argsort(dim=1)
    kept = shuffled[:, : int(noise.shape[1] * (1 - ratio))]
    return Mask(kept, shuffled.argsort(dim=1), torch.ones_like(noise, dtype=torch.bool).scatter(1, kept, False))


def mask_blocks(noise: Tensor, grid: tuple[int, int], ratio: float, block: tuple[int, int]) -> Tensor:
    """Hide whole blocks of patches: bool (B, h·w) (Xie et al. 2022, SimMIM, whose units are 32 pixels).

    Args:
        noise: (B, number of blocks), one independent draw a block, row by row.
        grid: (h, w) of patches; block: patches a block covers. Blocks at the border may be cut.
    """
    rows, columns = (-(-length // size) for length, size in zip(grid, block, strict=True))
    assert noise.shape[1] == rows * columns
    count = math.ceil(noise.shape[1] * ratio)
    hidden = noise.argsort(dim=1).argsort(dim=1) < count
    fine = hidden.unflatten(1, (rows, columns)).repeat_interleave(block[0], 1).repeat_interleave(block[1], 2)
    return fine[:, : grid[0], : grid[1]].flatten(1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens of each image by its own index: (B, N, D), (B, K) → (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
