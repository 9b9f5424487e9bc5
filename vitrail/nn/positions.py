"""Position embeddings added to the tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vitrail.nn.init import Initialised
from vitrail.ops.grid import Pair
from vitrail.ops.positions import Resampling, resample, sincos_1d, sincos_2d
from vitrail.ops.tables import kept

PositionKind = Literal["learned", "sincos_1d", "sincos_2d", "sincos_2d_mae", "rope_2d", "relative", "none"]


class NoPositions(nn.Module):
    """Tokens as they are (rotary positions act inside attention instead)."""

    def forward(self, prefix: Tensor, patches: Tensor, grid: Pair) -> Tensor:
        """(B P D, B N D) → B P+N D."""
        return torch.cat((prefix, patches), dim=1)

    def resize(self, grid: Pair) -> None:
        """Nothing is tied to a grid."""


class LearnedPositions(Initialised):
    """One learned vector per token; on another grid the patches' vectors are resampled.

    Args:
        num_prefix: how many of the leading prefix tokens have a vector too (registers have none).
        layers: vectors of a token, for as many layers that read them by :meth:`on_grid`.
    """

    def __init__(self, grid: Pair, dim: int, num_prefix: int, resampling: Resampling, layers: int = 1) -> None:
        super().__init__()
        self.grid, self.num_prefix, self.resampling = grid, num_prefix, resampling
        self.embedding = nn.Parameter(torch.empty(layers, num_prefix + grid[0] * grid[1], dim))

    def reset_parameters(self) -> None:
        """Truncated normal of deviation 0.02."""
        nn.init.trunc_normal_(self.embedding, std=0.02)

    def forward(self, prefix: Tensor, patches: Tensor, grid: Pair) -> Tensor:
        """(B P D, B N D) → B P+N D."""
        own, registers = prefix[:, : self.num_prefix], prefix[:, self.num_prefix :]
        head, body = self.on_grid(grid).tensor_split((self.num_prefix,), dim=1)
        return torch.cat((own + head, registers, patches + body), dim=1)

    def on_grid(self, grid: Pair) -> Tensor:
        """(layers, num_prefix + h·w, D) for any grid."""
        if grid == self.grid:
            return self.embedding
        head, body = self.embedding.tensor_split((self.num_prefix,), dim=1)
        return torch.cat((head, resample(body, self.grid, grid, self.resampling)), dim=1)

    @torch.no_grad()
    def resize(self, grid: Pair) -> None:
        """Move the learned vectors to another grid for good."""
        self.embedding = nn.Parameter(self.on_grid(grid).clone(), self.embedding.requires_grad)
        self.grid = grid

    def extra_repr(self) -> str:
        return f"grid={self.grid}, resampling={self.resampling}"


class SinusoidalPositions(nn.Module):
    """Fixed sines and cosines on the patches; prefix tokens stay as they are."""

    embedding: Tensor

    def __init__(self, grid: Pair, dim: int, kind: PositionKind) -> None:
        super().__init__()
        self.kind, self.dim, self.grid = kind, dim, grid
        self.register_buffer("embedding", self.table(grid), persistent=False)

    def forward(self, prefix: Tensor, patches: Tensor, grid: Pair) -> Tensor:
        """(B P D, B N D) → B P+N D."""
        return torch.cat((prefix, patches + self.on_grid(grid)), dim=1)

    def on_grid(self, grid: Pair) -> Tensor:
        """(h·w, D) for any grid."""
        if grid == self.grid:
            return self.embedding
        return kept(_sines, self.embedding.device, grid, self.dim, self.kind).to(self.embedding.dtype)

    def resize(self, grid: Pair) -> None:
        """Another native grid."""
        self.grid = grid
        self.embedding = self.table(grid).to(self.embedding.device)

    def table(self, grid: Pair) -> Tensor:
        """(h·w, D), recomputed."""
        # Computed on the CPU whatever the default device is: a model built on meta keeps real values.
        with torch.device("cpu"):
            return _sines(grid, self.dim, self.kind)


def _sines(grid: Pair, dim: int, kind: PositionKind) -> Tensor:
    if kind == "sincos_1d":
        return sincos_1d(grid[0] * grid[1], dim)
    return sincos_2d(grid, dim, last=kind == "sincos_2d")


def build_positions(
    kind: PositionKind, grid: Pair, dim: int, num_prefix: int, resampling: Resampling
) -> LearnedPositions | SinusoidalPositions | NoPositions:
    """What is added to the tokens; nothing where positions act inside attention.

    Args:
        num_prefix: prefix tokens with their own learned position.
    """
    if kind == "learned":
        return LearnedPositions(grid, dim, num_prefix, resampling)
    if kind in ("sincos_1d", "sincos_2d", "sincos_2d_mae"):
        return SinusoidalPositions(grid, dim, kind)
    return NoPositions()
