"""Self-attention of a ViT on large or padded images: in windows, and not to padding.

Shapes: B images, T tokens = P prefix tokens + h·w patches, D width, H heads of width d.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.attend import Positions
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block
from vitrail.ops.attention import attention
from vitrail.ops.grid import Pair


@config
class WindowConfig:
    """Which blocks attend within windows (Li et al. 2022, ViTDet, section 3).

    Args:
        size: side of a window in patches.
        num_global: blocks that attend to all tokens, spread evenly; the last one is among them.
    """

    size: Annotated[int, Field(gt=0, le=1024)] = 14
    num_global: Annotated[int, Field(gt=0, le=256)] = 4

    def is_global(self, layer: int, depth: int) -> bool:
        """Does block ``layer`` of ``depth`` attend to all tokens?"""
        return (layer + 1) * self.num_global // depth > layer * self.num_global // depth


@dataclass(frozen=True)
class Windows:
    """An ``Attend`` in windows, with padding masked.

    Attributes:
        depth: of the encoder.
        window: None: every block attends to all tokens.
        padding: bool (B, h·w), true where a patch is not the image's; None: no padding.
    """

    grid: Pair
    depth: int
    window: WindowConfig | None
    padding: Tensor | None

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D."""
        y: Tensor
        if self.window is not None and not self.window.is_global(layer, self.depth):
            size = self.window.size
            y = block(x, positions, partial(windowed_attention, padding=self.padding, grid=self.grid, size=size))
        elif self.padding is not None:
            num_prefix = x.shape[1] - self.grid[0] * self.grid[1]
            y = block(x, positions, partial(masked_attention, padding=self.padding, num_prefix=num_prefix))
        else:
            y = block(x, positions)
        return y


def masked_attention(module: Attention, x: Tensor, positions: Positions, padding: Tensor, num_prefix: int) -> Tensor:
    """Attention to all tokens but padding: B T D → B T D.

    Args:
        padding: bool (B, h·w), true where a patch is not the image's.

    Raises:
        UserError: a model with relative positions, whose bias takes the place of the mask.
    """
    _require_absolute(module)
    q, k, v = module.project(x, positions)
    return module.mix(q, k, v, _bias(F.pad(padding, (num_prefix, 0)), q))


def windowed_attention(
    module: Attention, x: Tensor, positions: Positions, padding: Tensor | None, grid: Pair, size: int
) -> Tensor:
    """Patches attend to their window of ``size`` × ``size`` and to the prefix tokens, these to all: B T D → B T D.

    Windows that the grid does not fill have fewer patches.

    Args:
        padding: bool (B, h·w), true where a patch is not the image's; None: no padding.

    Raises:
        UserError: a model with relative positions, whose bias is over the entire grid.
    """
    _require_absolute(module)
    q, k, v = module.project(x, positions)
    num_prefix = x.shape[1] - grid[0] * grid[1]
    whole = x.new_zeros(len(x), grid[0] * grid[1], dtype=torch.bool) if padding is None else padding
    of_prefix = attention(q[:, :, :num_prefix], k, v, mask=_bias(F.pad(whole, (num_prefix, 0)), q))

    outside = to_windows(whole[:, None, :, None], grid, size, fill=True)[:, 0, :, 0]
    windows = len(outside) // len(x)
    own = [to_windows(part[:, :, num_prefix:], grid, size) for part in (q, k, v)]
    shared = [part[:, :, :num_prefix].repeat_interleave(windows, dim=0) for part in (k, v)]
    keys, values = (torch.cat((prefix, part), dim=2) for prefix, part in zip(shared, own[1:], strict=True))
    of_patches = attention(own[0], keys, values, mask=_bias(F.pad(outside, (num_prefix, 0)), q))
    mixed = torch.cat((of_prefix, from_windows(of_patches, grid, size)), dim=2)
    return module.out(mixed.transpose(1, 2).flatten(2))


def to_windows(x: Tensor, grid: Pair, size: int, *, fill: bool = False) -> Tensor:
    """B H h·w d → (B·windows) H size² d, row by row; what the grid does not fill is ``fill``."""
    rows, columns = (-(-length // size) for length in grid)
    x = x.unflatten(2, grid)
    x = F.pad(x, (0, 0, 0, columns * size - grid[1], 0, rows * size - grid[0]), value=fill)
    x = x.unflatten(2, (rows, size)).unflatten(4, (columns, size))  # B H rows size columns size d
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def from_windows(x: Tensor, grid: Pair, size: int) -> Tensor:
    """The reverse of :func:`to_windows`."""
    rows, columns = (-(-length // size) for length in grid)
    x = x.unflatten(0, (-1, rows, columns)).unflatten(4, (size, size)).permute(0, 3, 1, 4, 2, 5, 6)
    return x.flatten(4, 5).flatten(2, 3)[:, :, : grid[0], : grid[1]].flatten(2, 3)


def _require_absolute(module: Attention) -> None:
    if module.relative is not None:
        raise UserError("a model with relative positions takes no windows and no padding; choose other positions")


def _bias(hidden: Tensor, like: Tensor) -> Tensor:
    """bool (B, keys) → what is added to attention scores, B 1 1 keys.

    A query without any key, in a window of padding alone, attends to all keys; its output is not used.
    """
    hidden = hidden & ~hidden.all(dim=1, keepdim=True)
    return torch.zeros_like(hidden, dtype=like.dtype).masked_fill(hidden, -torch.inf)[:, None, None]
