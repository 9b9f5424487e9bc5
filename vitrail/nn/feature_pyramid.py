"""Feature maps of several scales from the single one of a plain ViT (Li et al. 2022, ViTDet, section 3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Scale = Literal["1/2", "1", "2", "4"]
"""Cells of a map per patch along each side."""
CELLS: dict[Scale, float] = {"1/2": 0.5, "1": 1.0, "2": 2.0, "4": 4.0}


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of B C H W."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FeaturePyramid(nn.Module):
    """The last map of a ViT, B D h w → one map of width ``dim`` per scale, each by its own (de)convolutions.

    Cells of padding are zero before every convolution, so padding does not change an image's features.
    """

    def __init__(self, inputs: int, dim: int, scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.scales = scales
        self.levels = nn.ModuleList(_level(inputs, dim, scale) for scale in scales)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
        """B D h w → for each scale the map and its own padding.

        Args:
            padding: bool (B, h, w), true where a cell is not the image's.
        """
        found = []
        for scale, level in zip(self.scales, self.levels, strict=True):
            hidden = padding if padding is None else rescaled(padding, scale)
            y = _halved(x, padding) if scale == "1/2" else x
            for layer in level.children():
                if isinstance(layer, nn.Conv2d):
                    y = cleared(y, hidden)
                y = layer(y)
            found.append((y, hidden))
        return found


def cleared(x: Tensor, padding: Tensor | None) -> Tensor:
    """B C h w, zero where ``padding`` (B h w) is true."""
    return x if padding is None else x.masked_fill(padding.unsqueeze(1), 0)


def rescaled(padding: Tensor, scale: Scale) -> Tensor:
    """The padding bool (B h w) at another scale; a cell is padding if all of it is."""
    if scale == "1/2":
        return F.max_pool2d((~padding).float(), 2, ceil_mode=True) == 0
    times = int(scale)
    return padding.repeat_interleave(times, 1).repeat_interleave(times, 2)


def _halved(x: Tensor, padding: Tensor | None) -> Tensor:
    """The maximum of 2 × 2 cells, of fewer at the border."""
    if padding is not None:
        x = x.masked_fill(padding.unsqueeze(1), -torch.inf)
    return F.max_pool2d(x, 2, ceil_mode=True)


def _level(inputs: int, dim: int, scale: Scale) -> nn.Sequential:
    layers = nn.Sequential()
    width = inputs
    for step in range({"1/2": 0, "1": 0, "2": 1, "4": 2}[scale]):
        if step:
            layers.append(ChannelNorm(width, 1e-6))
            layers.append(nn.GELU())
        half = max(width // 2, 1)
        layers.append(nn.ConvTranspose2d(width, half, 2, 2))
        width = half
    for kernel in (1, 3):
        layers.append(nn.Conv2d(width, dim, kernel, padding=kernel // 2, bias=False))
        layers.append(ChannelNorm(dim, 1e-6))
        width = dim
    return layers
