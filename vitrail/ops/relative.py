"""Relative positions: which entry of a table of biases belongs to each pair of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vitrail.ops.grid import Pair

NUM_CLASS_ENTRIES = 3  # class token → patch, patch → class token, class token → itself


@dataclass(frozen=True)
class Offsets:
    """The entry of the table for each pair of tokens, made when it is asked for: of a large grid in windows it is not.

    Attributes:
        grid: (h, w), for which a table has :func:`num_entries`.
        class_token: whether a class token comes first.
        device: of :attr:`index`.
    """

    grid: Pair
    class_token: bool = False
    device: torch.device | None = None

    @cached_property
    def index(self) -> Tensor:
        """(T, T) int64, rows are queries. Entries are ordered by row offset, then column offset, query minus key, from
        the lowest (BEiT's order)."""
        return _index(self.grid, self.class_token, self.device)


@dataclass(frozen=True)
class Cells:
    """The tokens are the cells of a grid, row by row: all that a bias which is computed of the queries needs."""

    grid: Pair


def num_entries(grid: Pair, class_token: bool) -> int:
    """Length of the table: every offset between two patches, then what concerns the class token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + (NUM_CLASS_ENTRIES if class_token else 0)


def square_of(entries: int, class_token: bool) -> int:
    """The side of the square grid whose table has so many entries, or 0: none has."""
    side = (math.isqrt(max(entries - (NUM_CLASS_ENTRIES if class_token else 0), 0)) + 1) // 2
    return side if num_entries((side, side), class_token) == entries else 0


def offsets(grid: Pair, class_token: bool, device: torch.device | None = None) -> Offsets:
    """Those of a grid of tokens."""
    return Offsets(grid, class_token, device)


def _index(grid: Pair, class_token: bool, device: torch.device | None) -> Tensor:
    height, width = grid
    y, x = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    rows, columns = (along.reshape(-1, 1) - along.reshape(1, -1) for along in (y, x))
    index = (rows + height - 1) * (2 * width - 1) + columns + width - 1
    if class_token:
        first, patches = (2 * height - 1) * (2 * width - 1), index.shape[0]
        to_patches, from_patches, to_itself = (
            torch.full(shape, first + entry, device=device)
            for entry, shape in enumerate(((1, patches), (patches, 1), (1, 1)))
        )
        top, below = torch.cat((to_itself, to_patches), dim=1), torch.cat((from_patches, index), dim=1)
        index = torch.cat((top, below))
    return index
