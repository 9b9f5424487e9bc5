"""Segments found tile by tile, of which those that several tiles show become one.

Where two tiles look at the same pixels, two segments of one class are one thing if they share more than half of what
either holds there (intersection over union; no segment then has two partners, Kirillov et al. 2019, section 4.1).
Segments of one tile are different things. A class of stuff is one segment of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.ops.panoptic import Found
from vitrail.ops.tiles import Span, Tile, TileGrid

AGREEING = 0.5  # intersection over union above which segments are of one thing


class _Seen(NamedTuple):
    """A tile and its segments, numbered over all tiles."""

    tile: Tile
    numbers: Tensor
    """int64 (h, w), 0 for none."""


def stitched(parts: Iterable[tuple[Tile, Found]], grid: TileGrid, things: Sequence[bool]) -> Found:
    """The segments of every tile in the grid's order → those of the picture, best score first.

    A pixel that several tiles show is the segment's of that tile whose border is farther away, or, where that one finds
    none, of another tile. The score of a segment is the best of its parts.

    Args:
        things: of each class, whether each segment is one of its own.
    """
    canvas = torch.zeros(grid.size, dtype=torch.int64)
    labels, scores, tile_of = list[int](), list[float](), list[int]()
    seen, agreeing = list[_Seen](), list[tuple[float, int, int]]()
    for number, (tile, found) in enumerate(parts):
        own = _Seen(tile, torch.where(found.numbers > 0, found.numbers.long() + len(labels), 0))
        labels += found.labels.tolist()
        scores += found.scores.tolist()
        tile_of += [number] * len(found.labels)
        seen = [other for other in seen if other.tile.rows[1] > tile.rows[0]]
        for other in seen:
            agreeing += _agreeing(own, other, labels)
        seen.append(own)
        _paint(canvas, own, grid)
    group = _grouped(labels, tile_of, agreeing, things)
    return _numbered(canvas, labels, scores, group)


def _paint(canvas: Tensor, own: _Seen, grid: TileGrid) -> None:
    """Set the pixels that are the tile's own, and those of no segment so far."""
    here = canvas[slice(*own.tile.rows), slice(*own.tile.columns)]
    rows, columns = (
        _inner(span, spans) for span, spans in ((own.tile.rows, grid.rows), (own.tile.columns, grid.columns))
    )
    inner = torch.zeros(own.tile.size, dtype=torch.bool)
    inner[rows, columns] = True
    wanted = (own.numbers > 0) & (inner | (here == 0))
    here[wanted] = own.numbers[wanted]


def _inner(span: Span, spans: Sequence[Span]) -> slice:
    """Of a tile's side, the pixels that no other tile shows farther from its border, within the tile."""
    place = spans.index(span)
    start = (span[0] + spans[place - 1][1]) // 2 if place and spans[place - 1][1] > span[0] else span[0]
    after = place + 1 < len(spans) and spans[place + 1][0] < span[1]
    end = (spans[place + 1][0] + span[1]) // 2 if after else span[1]
    return slice(start - span[0], max(start, end) - span[0])


def _agreeing(one: _Seen, other: _Seen, labels: Sequence[int]) -> Iterator[tuple[float, int, int]]:
    """IoU, and the two segments from 0 on, of what may be one thing."""
    spans = [(max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(one.tile, other.tile, strict=True)]
    if any(end <= start for start, end in spans):
        return
    a, b = (
        part.numbers[tuple(slice(s - first[0], e - first[0]) for (s, e), first in zip(spans, part.tile, strict=True))]
        for part in (one, other)
    )
    pairs, joint = torch.stack((a, b)).flatten(1).unique(dim=1, return_counts=True)
    areas = [dict(zip(*map(Tensor.tolist, each.unique(return_counts=True)), strict=True)) for each in (a, b)]
    for (i, j), both in zip(pairs.T.tolist(), joint.tolist(), strict=True):
        if i and j and labels[i - 1] == labels[j - 1]:
            overlap = both / (areas[0][i] + areas[1][j] - both)
            if overlap > AGREEING:
                yield overlap, i - 1, j - 1


def _grouped(
    labels: Sequence[int], tile_of: Sequence[int], agreeing: Sequence[tuple[float, int, int]], things: Sequence[bool]
) -> list[int]:
    """The group of each segment, numbered by one of its members; the best agreement first, one of each tile."""
    group, members = list(range(len(labels))), [[place] for place in range(len(labels))]
    for _, i, j in sorted(agreeing, reverse=True):
        a, b = group[i], group[j]
        if a == b or {tile_of[place] for place in members[a]} & {tile_of[place] for place in members[b]}:
            continue
        for place in members[b]:
            group[place] = a
        members[a] += members[b]
    first_of = dict[int, int]()
    return [own if things[k] else first_of.setdefault(k, own) for k, own in zip(labels, group, strict=True)]


def _numbered(canvas: Tensor, labels: Sequence[int], scores: Sequence[float], group: Sequence[int]) -> Found:
    """The groups that have pixels as segments from 1 on, best score first."""
    best = dict[int, float]()
    for own, score in zip(group, scores, strict=True):
        best[own] = max(score, best.get(own, 0.0))
    of_group = torch.tensor([0, *(own + 1 for own in group)])
    shown = of_group[canvas]
    kept = sorted((own - 1 for own in shown.unique().tolist() if own), key=lambda own: (-best[own], own))
    number_of = torch.zeros(len(labels) + 1, dtype=torch.int32)
    for number, own in enumerate(kept, start=1):
        number_of[own + 1] = number
    found = torch.tensor([labels[own] for own in kept], dtype=torch.int64)
    return Found(number_of[shown], found, torch.tensor([best[own] for own in kept], dtype=torch.float32))
