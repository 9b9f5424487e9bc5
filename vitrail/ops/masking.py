"""Random masks of patches. B batch, N patches, K of them kept, D width."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Mask(NamedTuple):
    """A choice of patches.

    Attributes:
        kept: int64 (B, K), which patches stay, in their shuffled order.
        dropped: int64 (B, N − K), which do not.
        restore: int64 (B, N), where each patch stands in (kept, then dropped).
    """

    kept: Tensor
    dropped: Tensor
    restore: Tensor

    @property
    def hidden(self) -> Tensor:
        """bool (B, N), true where a patch is hidden."""
        return self.restore >= self.kept.shape[1]


def mask_by_noise(noise: Tensor, ratio: float) -> Mask:
    """Hide the patches of the highest noise (He et al. 2022, MAE).

    Args:
        noise: (B, N), one independent draw per patch.
        ratio: share to hide; ⌊N · (1 − ratio)⌋ patches stay.
    """
    shuffled = noise.argsort(dim=1)
    kept, dropped = shuffled.tensor_split((int(noise.shape[1] * (1 - ratio)),), dim=1)
    return Mask(kept, dropped, shuffled.argsort(dim=1))


def mask_blocks(noise: Tensor, grid: tuple[int, int], ratio: float, block: tuple[int, int]) -> Tensor:
    """Hide blocks of patches: bool (B, h·w) (Xie et al. 2022, SimMIM, whose units are 32 pixels).

    Args:
        noise: (B, number of blocks), one independent draw per block, row by row.
        grid: (h, w) of patches; block: patches per block. Blocks at the border may be cut.
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


def mask_lowest(scores: Tensor, counts: Tensor) -> Tensor:
    """Hide the ``counts[b]`` patches of the lowest score in each image: bool (B, N) for scores (B, N)."""
    return scores.argsort(dim=1).argsort(dim=1) < counts.unsqueeze(1)


def mask_rectangles(rectangles: Tensor, ties: Tensor, grid: tuple[int, int], counts: Tensor) -> Tensor:
    """Hide one rectangle after the other until ``counts[b]`` patches are hidden, of the last rectangle a random part:
    bool (B, h·w) (Bao et al. 2022, BEiT, algorithm 1).

    Args:
        rectangles: (B, R, 4) independent draws for area, aspect, top and left of each; if all R are too few, single
            patches make up for the rest.
        ties: (B, h·w) independent draws, one per patch.
        counts: (B,).
    """
    least, aspect = 4, 0.3  # patches in a rectangle (DINOv2's), and the flattest
    area = least + (counts.unsqueeze(1) - least).clamp(min=0) * rectangles[..., 0]
    stretch = aspect ** (rectangles[..., 1] - 0.5)
    inside = [
        _covered(length, (area.sqrt() * factor).round().clamp(1, length), draw)
        for length, factor, draw in zip(grid, (stretch, 1 / stretch), rectangles[..., 2:].unbind(-1), strict=True)
    ]
    covers = (inside[0].unsqueeze(-1) & inside[1].unsqueeze(-2)).flatten(2)
    number = torch.arange(covers.shape[1], device=covers.device).unsqueeze(1)
    first = torch.where(covers, number, covers.shape[1]).amin(dim=1)
    return mask_lowest(first + ties, counts)


def _covered(length: int, size: Tensor, draw: Tensor) -> Tensor:
    """Which of 0 … length - 1 an interval of that size covers, the place of which is drawn: bool (…, length)."""
    start = (draw * (length - size + 1)).floor().unsqueeze(-1)
    places = torch.arange(length, device=size.device)
    return (places >= start) & (places < start + size.unsqueeze(-1))
