"""Overlapping tiles that cover a picture, and how numbers of its pixels that several tiles tell become one.

A tile is a part of the picture, in its own pixels. Sizes are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import Size, config
from vitrail.ops.grid import Pair

OVERLAP = 0.2

Span = tuple[int, int]
"""First pixel of a side, and the first one behind it."""


@config
class TileConfig:
    """Args:
    size: of a tile, in pixels of the picture; where that is shorter, so is the tile.
    overlap: share of a tile's sides that its neighbours show too, at least.
    align: of how many pixels the place of a tile is a multiple, such as the side of windows of attention; tiles that
        are shown in their own size are continued to such a side by their mirror image.
    blend: neighbours' numbers are blended where they overlap; else each pixel takes those of the tile whose border is
        further away, which are exact where half of the overlap is as far as a model sees.
    """

    size: Size
    overlap: Annotated[float, Field(ge=0, lt=1)] = OVERLAP
    align: Annotated[int, Field(gt=0)] = 1
    blend: bool = True

    def __str__(self) -> str:
        height, width = self.size
        return f"{height} × {width} pixels, overlapping by {self.overlap:.0%}"


class Tile(NamedTuple):
    """A part of a picture."""

    rows: Span
    columns: Span

    @property
    def size(self) -> Pair:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the picture."""
        return self.columns[0], self.rows[0], self.columns[1], self.rows[1]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a picture of ``size``: as few of equal size as overlap enough, spread evenly, so that the picture's
    border cuts none of them; where they are aligned, the last ones may be smaller."""

    size: Pair
    config: TileConfig

    def __iter__(self) -> Iterator[Tile]:
        """Row after row."""
        return (Tile(rows, columns) for rows in self.rows for columns in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @cached_property
    def rows(self) -> list[Span]:
        """Of the tiles, from the top."""
        return _spans(self.size[0], self.config.size[0], self.config)

    @cached_property
    def columns(self) -> list[Span]:
        """Of the tiles, from the left."""
        return _spans(self.size[1], self.config.size[1], self.config)


class Covering(Protocol):
    """Tiles in rows and columns that cover a picture."""

    @property
    def size(self) -> Pair: ...
    @property
    def rows(self) -> list[Span]: ...
    @property
    def columns(self) -> list[Span]: ...
    @property
    def config(self) -> TileConfig: ...


@dataclass(frozen=True)
class EnlargedGrid:
    """The tiles of a picture whose sides are ``factor`` times as long, in its pixels."""

    grid: TileGrid
    factor: int

    @property
    def size(self) -> Pair:
        return self.grid.size[0] * self.factor, self.grid.size[1] * self.factor

    @property
    def config(self) -> TileConfig:
        return self.grid.config

    @cached_property
    def rows(self) -> list[Span]:
        return [self._moved(span) for span in self.grid.rows]

    @cached_property
    def columns(self) -> list[Span]:
        return [self._moved(span) for span in self.grid.columns]

    def tile(self, tile: Tile) -> Tile:
        """A tile of the grid."""
        return Tile(self._moved(tile.rows), self._moved(tile.columns))

    def _moved(self, span: Span) -> Span:
        return span[0] * self.factor, span[1] * self.factor


def blended(parts: Iterable[tuple[Tile, Iterable[tuple[slice, Tensor]]]], grid: Covering) -> Iterator[Tensor]:
    """Numbers (K, h, w) of each tile → those of the picture, (K, rows, W), from the top, as soon as rows are complete.

    They are means whose weights fall linearly from where a neighbour begins to the tile's own border (feathering,
    Szeliski 2006, "Image alignment and stitching", section 6.2), so no seam shows; a pixel of a single tile keeps its
    numbers to the bit. Without ``TileConfig.blend`` a weight is 0 or 1. No more is held than the tiles of a row.

    Args:
        parts: of every tile in the grid's order, bands of its rows with their numbers.
    """
    weigh = _weights if grid.config.blend else _choices
    down, across = (dict(zip(spans, weigh(spans), strict=True)) for spans in (grid.rows, grid.columns))
    starts = [*(rows[0] for rows in grid.rows[1:]), grid.size[0]]  # until where a row of tiles completes the picture's
    held: Tensor | None = None
    done = 0
    for number, (tile, bands) in enumerate(parts):
        row, column = divmod(number, len(grid.columns))
        for rows, band in bands:
            if held is None or held.shape[1] < tile.rows[1] - done:
                held = _longer(held, band, tile.rows[1] - done, grid.size[1])
            first = tile.rows[0] + rows.start - done
            weights = down[tile.rows][rows, None] * across[tile.columns]
            held[:, first : first + band.shape[1], slice(*tile.columns)] += band * weights.to(band)
        if column + 1 == len(grid.columns) and held is not None:
            count = starts[row] - done
            yield held[:, :count]
            held, done = held[:, count:], starts[row]


def _longer(held: Tensor | None, like: Tensor, height: int, width: int) -> Tensor:
    """What is held, with zeros below it up to (K, height, width)."""
    longer = like.new_zeros((len(like), height, width))
    if held is not None:
        longer[:, : held.shape[1]] = held
    return longer


def _spans(length: int, tile: int, config: TileConfig) -> list[Span]:
    """Tiles along a side."""
    if tile >= length:
        return [(0, length)]
    step = max(1, tile - math.ceil(tile * config.overlap))
    if config.align > 1:
        step = max(config.align, step // config.align * config.align)
        steps = math.ceil((length - tile) / step)
        return [(place * step, min(place * step + tile, length)) for place in range(steps + 1)]
    steps = math.ceil((length - tile) / step)
    starts = [(2 * place * (length - tile) + steps) // (2 * steps) for place in range(steps + 1)]
    return [(start, start + tile) for start in starts]


def _choices(spans: list[Span]) -> list[Tensor]:
    """As :func:`_weights`, 1 for the tile whose border is further away and 0 for the other."""
    ends = [0, *((after[0] + before[1]) // 2 for before, after in pairwise(spans)), spans[-1][1]]
    found = []
    for (start, end), own in zip(spans, pairwise(ends), strict=True):
        weight = torch.zeros(end - start, dtype=torch.float64)
        weight[own[0] - start : own[1] - start] = 1
        found.append(weight)
    return found


def _weights(spans: list[Span]) -> list[Tensor]:
    """Of each pixel of each tile along a side; those of a pixel add up to 1."""
    raw = []
    for place, (start, end) in enumerate(spans):
        centre = torch.arange(start, end, dtype=torch.float64) + 0.5
        weight = torch.ones_like(centre)
        if place and spans[place - 1][1] > start:
            weight = torch.minimum(weight, (centre - start) / (spans[place - 1][1] - start))
        if place + 1 < len(spans) and spans[place + 1][0] < end:
            weight = torch.minimum(weight, (end - centre) / (end - spans[place + 1][0]))
        raw.append(weight)
    total = torch.zeros(spans[-1][1], dtype=torch.float64)
    for span, weight in zip(spans, raw, strict=True):
        total[slice(*span)] += weight
    return [weight / total[slice(*span)] for span, weight in zip(spans, raw, strict=True)]
