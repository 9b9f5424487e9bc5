"""A bias of attention by the offset between two tokens that a small network computes (Liu et al. 2022, Swin V2,
section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.nn.init import Initialised
from vitrail.ops.grid import Pair
from vitrail.ops.relative import Offsets

HIDDEN = 512
SPREAD, LARGEST = 8.0, 16.0  # of the coordinates, and of the bias


class ContinuousBias(Initialised):
    """Numbers for each head, from 0 to 16, added to the scores: of the logarithms of the offsets, which are shares of
    the grid's sides.

    Args:
        grid: of the tokens that attend to each other, as of :class:`~vitrail.nn.relative_bias.RelativeBias`.
    """

    class_token = False

    def __init__(self, grid: Pair, heads: int) -> None:
        super().__init__()
        self.grid = grid
        self.fc1 = nn.Linear(2, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, heads, bias=False)

    @property
    def table(self) -> Tensor:
        """(entries, H)."""
        return self.on_grid(self.grid)

    def forward(self, offsets: Offsets) -> Tensor:
        """1 H T T for any grid."""
        return self.on_grid(offsets.grid)[offsets.index].permute(2, 0, 1)[None].contiguous()

    def on_grid(self, grid: Pair) -> Tensor:
        """The table for any grid, (entries, H), ordered by row offset, then column offset."""
        weight = self.fc1.weight
        sides = (
            torch.arange(1 - n, n, device=weight.device, dtype=torch.float32) * (SPREAD / max(n - 1, 1)) for n in grid
        )
        places = torch.cartesian_prod(*sides)
        logarithms = places.sign() * (places.abs() + 1).log2() / 3  # the logarithm of 8 is 3
        hidden = self.fc1(logarithms.to(weight.dtype)).relu()
        found: Tensor = LARGEST * self.fc2(hidden).sigmoid()
        return found

    def resize(self, grid: Pair) -> None:
        """Take another grid for good; the network stays."""
        self.grid = grid

    def extra_repr(self) -> str:
        return f"grid={self.grid}"
