"""Self-attention of a ViT on large or padded images: in windows, and not to padding.

Shapes: B images, T tokens = P prefix tokens + h·w patches, D width, H heads of width d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.attend import Positions, full
from vitrail.nn.attention import Attention, AttentionPattern, Masked
from vitrail.nn.block import Block
from vitrail.ops.attention import attention
from vitrail.ops.grid import Pair
from vitrail.ops.relative import offsets
from vitrail.ops.windows import from_windows as from_windows
from vitrail.ops.windows import num_windows
from vitrail.ops.windows import to_windows as to_windows


@config
class WindowConfig:
    """Which blocks attend within windows (Li et al. 2022, ViTDet, section 3).

    Args:
        size: side of a window in patches.
        num_global: blocks that attend to all tokens, spread evenly; the last one is among them. 0: none does.
        shifted: the windows of every second block are moved by half a window (Liu et al. 2021, Swin, section 3.2).
    """

    size: Annotated[int, Field(gt=0, le=1024)] = 14
    num_global: Annotated[int, Field(ge=0, le=256)] = 4
    shifted: bool = False

    def is_global(self, layer: int, depth: int) -> bool:
        """Does block ``layer`` of ``depth`` attend to all tokens?"""
        return (layer + 1) * self.num_global // depth > layer * self.num_global // depth

    def side(self, grid: Pair) -> Pair:
        """(rows, columns) of a window in patches."""
        return self.size, self.size

    def shift(self, layer: int) -> int:
        """By how many patches the windows of block ``layer`` begin before the grid, down and to the right."""
        return self.size - self.size // 2 if self.shifted and layer % 2 else 0


@config
class SplitConfig:
    """Which blocks attend within windows that are equal parts of the image, whatever its size (Chen et al. 2024,
    LW-DETR, section 3.2).

    Args:
        parts: windows along each side.
        layers: blocks that attend within windows, from 0; the others attend to all tokens.
    """

    parts: Annotated[int, Field(gt=0, le=64)] = 4
    layers: tuple[Annotated[int, Field(ge=0, lt=256)], ...] = ()

    def is_global(self, layer: int, depth: int) -> bool:
        """Does block ``layer`` of ``depth`` attend to all tokens?"""
        return layer not in self.layers

    def side(self, grid: Pair) -> Pair:
        """(rows, columns) of a window in patches; the last ones have fewer where parts are not equal."""
        rows, columns = ((length + self.parts - 1) // self.parts for length in grid)  # ONNX rounds quotients to zero
        return rows, columns

    def shift(self, layer: int) -> int:
        """None: windows begin where the grid does."""
        return 0


Windowing: TypeAlias = WindowConfig | SplitConfig
"""Which blocks attend within windows, and how large these are."""


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
    window: Windowing | None
    padding: Tensor | None

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D.

        Raises:
            UserError: a model with relative positions, whose bias is over the entire grid and takes the place of masks;
                but for windows without padding where it is over a grid of one window.
        """
        pattern: AttentionPattern
        windowed = self.window is not None and not self.window.is_global(layer, self.depth)
        if self.window is not None and windowed:
            pattern = Windowed(self.grid, self.window.side(self.grid), self.padding, self.window.shift(layer))
        elif self.padding is not None:
            pattern = Masked(visible(self.padding, x.shape[1])[:, None, None])
        else:
            return full(layer, block, x, positions)
        if block.attention.needs_grid and not (windowed and self._of_windows(block.attention)):
            raise UserError("a model with relative positions takes no windows and no padding; choose other positions")
        y: Tensor = block(x, positions, pattern)
        return y

    def _of_windows(self, module: Attention) -> bool:
        """Whether relative positions are those of patches in one window."""
        table, window = module.relative, self.window
        return bool(
            self.padding is None and table is not None and window is not None and table.grid == window.side(self.grid)
        )


@dataclass(frozen=True)
class Windowed:
    """Patches attend to their window of ``size`` (rows, columns) and to the prefix tokens, these to all.

    Windows that the grid does not fill have fewer patches. A patch in a window of padding alone attends to that.

    Attributes:
        shift: by how many patches the first window begins before the grid, down and to the right.
        padding: bool (B, h·w), true where a patch is not the image's; None: no padding.
    """

    grid: Pair
    size: Pair
    padding: Tensor | None
    shift: int = 0

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D."""
        grid, size, shift, num_patches = self.grid, self.size, self.shift, self.grid[0] * self.grid[1]
        num_prefix = x.shape[1] - num_patches
        if num_prefix == 0 and not isinstance(positions, tuple):
            return self._of_patches(module, x)
        q, k, v = module.project(x, positions)
        whole = x.new_zeros(x.shape[0], num_patches, dtype=torch.bool) if self.padding is None else self.padding
        outside = to_windows(whole[:, None, :, None], grid, size, shift, fill=True)[:, 0, :, 0]
        own = [to_windows(part[:, :, num_prefix:], grid, size, shift) for part in (q, k, v)]
        keys, values = own[1:]
        if num_prefix:
            windows = math.prod(num_windows(grid, size, shift))
            shared = [part[:, :, :num_prefix].repeat_interleave(windows, dim=0) for part in (k, v)]
            keys, values = (torch.cat((prefix, part), dim=2) for prefix, part in zip(shared, own[1:], strict=True))
        of_patches = attention(own[0], keys, values, mask=_bias(visible(outside, keys.shape[2]), q))
        mixed = from_windows(of_patches, grid, size, shift, x.shape[0])
        if num_prefix:
            of_prefix = attention(q[:, :, :num_prefix], k, v, mask=_bias(visible(whole, x.shape[1]), q))
            mixed = torch.cat((of_prefix, mixed), dim=2)
        return module.join(mixed)

    def _of_patches(self, module: Attention, x: Tensor) -> Tensor:
        """The same where there are patches alone, which do not turn: a window is a batch of its own, so that tokens
        move twice and not queries, keys and values each."""
        grid, size, shift = self.grid, self.size, self.shift
        whole = x.new_zeros(x.shape[0], x.shape[1], dtype=torch.bool) if self.padding is None else self.padding
        outside = to_windows(whole[:, None, :, None], grid, size, shift, fill=True)[:, 0, :, 0]
        q, k, v = module.project(to_windows(x[:, None], grid, size, shift)[:, 0])
        seen, bias = _bias(visible(outside, outside.shape[1]), q), self._relative(module, q.device)
        mixed = module.join(attention(q, k, v, mask=seen if bias is None else seen + bias.to(seen)))
        return from_windows(mixed[:, None], grid, size, shift, x.shape[0])[:, 0]

    def _relative(self, module: Attention, device: torch.device) -> Tensor | None:
        """The bias of patches by their offsets in a window (Liu et al. 2021, Swin, equation 4), 1 H r·c r·c; the
        table is that of a grid of one window. None: there is none."""
        if module.relative is None:
            return None
        assert not module.relative.class_token, "a window holds patches alone"
        bias: Tensor = module.relative(offsets(self.size, False, device))
        return bias

    def mask(self, x: Tensor) -> Tensor:
        """bool (B or 1, 1, T, T)."""
        num_prefix = x.shape[1] - self.grid[0] * self.grid[1]
        sides = zip(self.grid, self.size, strict=True)
        row, column = ((torch.arange(length, device=x.device) + self.shift) // side for length, side in sides)
        window = (row[:, None] * (self.grid[1] + self.size[1]) + column).flatten()
        near = F.pad(window[:, None] == window, (num_prefix, 0, num_prefix, 0), value=True)[None]
        if self.padding is None:
            return near[:, None]
        seen = near & ~F.pad(self.padding, (num_prefix, 0))[:, None]
        return torch.where(seen.any(dim=-1, keepdim=True), seen, near)[:, None]


def visible(padding: Tensor, num_tokens: int) -> Tensor:
    """Which tokens are attended to, bool (B, T): prefix tokens and those of bool (B, N) that are no padding;
    where there are none, all, since their output is not used."""
    hidden = F.pad(padding, (num_tokens - padding.shape[1], 0))
    return ~hidden | hidden.all(dim=1, keepdim=True)


def _bias(seen: Tensor, like: Tensor) -> Tensor:
    """bool (B, keys) → what is added to attention scores, B 1 1 keys."""
    return torch.zeros_like(seen, dtype=like.dtype).masked_fill(~seen, -torch.inf)[:, None, None]
