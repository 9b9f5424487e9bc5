"""What makes a picture of tokens: convolutions between groups of blocks, and a head that moves channels to pixels.

Shapes: B images, T = h·w tokens, D width, s the scale, p the pixels between tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attend import Attend
from vitrail.nn.block import Block
from vitrail.nn.init import Initialised
from vitrail.nn.located import Positions
from vitrail.nn.upsampling import spatial
from vitrail.ops.grid import Pair


def on_grid(tokens: Tensor, grid: Pair) -> Tensor:
    """B T D → B D h w."""
    return tokens.transpose(1, 2).unflatten(2, grid)


class GroupConvolution(Initialised):
    """x + conv(y): a 3×3 convolution of what a group of blocks made of its input x (Liang et al. 2021, SwinIR, equation
    5), or three of them (:func:`~vitrail.nn.upsampling.spatial`). At first it is nothing but x."""

    def __init__(self, dim: int, convolutions: int = 1) -> None:
        super().__init__()
        self.conv = spatial(dim, convolutions)

    def finish_reset(self) -> None:
        """The last convolution is zero."""
        last = self.conv if isinstance(self.conv, nn.Conv2d) else self.conv[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)

    def forward(self, start: Tensor, tokens: Tensor, grid: Pair) -> Tensor:
        """Input and output of the blocks, both B T D → B T D. Tokens before the patches stay as blocks made them."""
        prefix = tokens.shape[1] - grid[0] * grid[1]
        patches = start[:, prefix:] + self.conv(on_grid(tokens[:, prefix:], grid)).flatten(2).transpose(1, 2)
        return torch.cat((tokens[:, :prefix], patches), dim=1) if prefix else patches


class Groups:
    """An ``Attend`` that runs blocks by another one, and a convolution after every group of blocks.

    Args:
        ends: the last block of each group, with its convolution.
    """

    def __init__(self, attend: Attend, ends: dict[int, GroupConvolution], grid: Pair) -> None:
        self.attend, self.ends, self.grid = attend, ends, grid
        self._start: Tensor | None = None

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D."""
        start = x if self._start is None else self._start
        y = self.attend(layer, block, x, positions)
        if (end := self.ends.get(layer)) is None:
            self._start = start
            return y
        self._start = None
        return end(start, y, self.grid)


class PixelHead(Initialised):
    """B D h w and what entered the blocks, B D h w → what is added to the enlarged picture, B C s·p·h s·p·w: a 3×3
    convolution, the sum of both, and one to C·(s·p)² channels that become pixels (Shi et al. 2016, ESPCN). At first 0.
    """

    def __init__(self, dim: int, channels: int, factor: int, convolutions: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.body = spatial(dim, convolutions)
        self.pixels = nn.Conv2d(dim, channels * factor**2, 3, padding=1)

    def finish_reset(self) -> None:
        """The last convolution is zero."""
        nn.init.zeros_(self.pixels.weight)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        return F.pixel_shuffle(self.pixels(self.body(features) + shallow), self.factor)
