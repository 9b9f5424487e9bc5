"""Attention of SAM's image encoder: in windows, with relative positions by row and by column (Kirillov et al. 2023).

The bias of a pair is q · (r_row + r_column), a vector for each offset (Li et al. 2022, MViTv2). Windows that the grid
does not fill hold zeros, which are attended to.

Shapes: B images, (h, w) token grid, T = h·w tokens without any before them, H heads of width d.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.attention import Attention
from vitrail.nn.located import Positions
from vitrail.ops.grid import Pair
from vitrail.ops.relative import Cells
from vitrail.ops.windows import from_windows, to_windows


@config
class DecomposedConfig:
    """Which layers attend within windows.

    Args:
        window: side of a window in patches.
        global_layers: those whose tokens attend to all, from 0.
    """

    window: Annotated[int, Field(gt=0, le=1024)] = 14
    global_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()


class DecomposedAttention(Attention):
    """Attention with a bias by row and one by column.

    Args:
        grid: of all tokens.
        window: side of a window; 0: all tokens attend to all.
        rest: as of :class:`Attention`.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, *, grid: Pair, window: int, **rest: Any) -> None:
        super().__init__(dim, heads, head_dim, **rest)
        self.window = window
        rows, columns = (window, window) if window else grid
        self.rows = nn.Parameter(torch.empty(2 * rows - 1, head_dim))
        self.columns = nn.Parameter(torch.empty(2 * columns - 1, head_dim))

    def reset_parameters(self) -> None:
        """Truncated normal of deviation 0.02."""
        for table in (self.rows, self.columns):
            nn.init.trunc_normal_(table, std=0.02)

    @property
    def needs_grid(self) -> bool:
        return True

    def forward(self, x: Tensor, positions: Positions = None, mask: Tensor | None = None) -> Tensor:
        """B T D → B T D.

        Raises:
            UserError: a mask, or tokens that are not those of a grid.
        """
        if mask is not None or not isinstance(positions, Cells):
            raise UserError("decomposed positions need all tokens of the grid and take no mask; choose other positions")
        if not self.window:
            return self._attend(x, positions.grid)
        side = (self.window, self.window)
        mixed = self._attend(to_windows(x[:, None], positions.grid, side)[:, 0], side)
        return from_windows(mixed[:, None], positions.grid, side)[:, 0]

    def openly(self, x: Tensor, positions: Positions = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As of :class:`Attention`; only where all tokens attend to all.

        Raises:
            UserError: attention in windows, whose zeros have no place in a matrix over the tokens.
        """
        if self.window or mask is not None or not isinstance(positions, Cells):
            raise UserError(
                "attention in windows of decomposed positions has no matrix over all tokens; "
                "take a layer of decomposed.global_layers"
            )
        q, k, v = self.project(x)
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5 + self.bias(q, positions.grid)
        weights = scores.softmax(dim=-1)
        return self.join(weights @ v), weights

    def bias(self, q: Tensor, grid: Pair) -> Tensor:
        """B H T d of a grid → B H T T."""
        rows, columns = (_between(table, n) for table, n in zip((self.rows, self.columns), grid, strict=True))
        q = q.unflatten(2, grid)
        by_row = torch.einsum("bnhwd,hkd->bnhwk", q, rows.to(q.dtype))
        by_column = torch.einsum("bnhwd,wkd->bnhwk", q, columns.to(q.dtype))
        return (by_row[..., :, None] + by_column[..., None, :]).flatten(-2).flatten(2, 3)

    @torch.no_grad()
    def resize(self, grid: Pair) -> None:
        """Vectors for another grid, for good; windows keep theirs."""
        if not self.window:
            self.rows, self.columns = (
                nn.Parameter(_stretched(table, n).clone(), table.requires_grad)
                for table, n in zip((self.rows, self.columns), grid, strict=True)
            )

    def _attend(self, x: Tensor, grid: Pair) -> Tensor:
        q, k, v = self.project(x)
        return self.mix(q, k, v, self.bias(q, grid))


def _stretched(table: Tensor, length: int) -> Tensor:
    """The vectors of all offsets along a side of so many cells, (2·length − 1, d)."""
    if len(table) == 2 * length - 1:
        return table
    return F.interpolate(table.float().mT[None], size=2 * length - 1, mode="linear")[0].mT.to(table.dtype)


def _between(table: Tensor, length: int) -> Tensor:
    """The vector of each pair along one side, (length, length, d): query minus key."""
    along = torch.arange(length, device=table.device)
    return _stretched(table, length)[along[:, None] - along[None] + length - 1]
