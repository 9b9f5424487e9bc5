"""A learned bias of attention by the offset between two tokens (Bao et al. 2022, BEiT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.nn.init import Initialised
from vitrail.ops.grid import Pair
from vitrail.ops.positions import Resampling, resample
from vitrail.ops.relative import Offsets, num_entries


class RelativeBias(Initialised):
    """One number per head and offset, added to q·k/√d; on another grid the table of offsets is resampled.

    Args:
        class_token: three more entries, for the class token's pairs.
    """

    def __init__(self, grid: Pair, heads: int, class_token: bool, resampling: Resampling) -> None:
        super().__init__()
        self.grid, self.class_token, self.resampling = grid, class_token, resampling
        self.table = nn.Parameter(torch.empty(num_entries(grid, class_token), heads))

    def reset_parameters(self) -> None:
        """Truncated normal of deviation 0.02."""
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, offsets: Offsets) -> Tensor:
        """1 H T T for any grid."""
        return self.on_grid(offsets.grid)[offsets.index].permute(2, 0, 1)[None].contiguous()

    def on_grid(self, grid: Pair) -> Tensor:
        """The table for any grid, (entries, H)."""
        if grid == self.grid:
            return self.table
        old, new = ((2 * height - 1, 2 * width - 1) for height, width in (self.grid, grid))
        patches, rest = self.table.tensor_split((old[0] * old[1],))
        return torch.cat((resample(patches[None], old, new, self.resampling)[0], rest))

    @torch.no_grad()
    def resize(self, grid: Pair) -> None:
        """Move the table to another grid for good."""
        self.table = nn.Parameter(self.on_grid(grid).clone(), self.table.requires_grad)
        self.grid = grid

    def extra_repr(self) -> str:
        return f"grid={self.grid}, resampling={self.resampling}"
