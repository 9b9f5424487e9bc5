"""Objects found tile by tile, of which those that several tiles show become one.

What a tile says of an object is a row: scores of the classes, and a box. Rows of neighbouring tiles that agree on a
place are of one object, whatever they take it for; those of one tile are of different objects, as the set prediction of
each says. A row is *cut* where its box reaches the tile's border inside the picture: what it shows may go on beyond. So
cut ones are compared where both tiles look, by intersection over union, and those of one class also by the share that
lies in the other (intersection over smaller: Akyon et al. 2022, "Slicing Aided Hyper Inference", SAHI, postprocessing).

The scores of an object are the mean over the tiles that see all of it, 0 where one has found nothing there, and so is
its box (Solovyev et al. 2021, "Weighted boxes fusion"): what only a tile's border suggests falls behind. Where none
sees all, its parts count by their areas.

Shapes: n rows of all tiles, K classes, m objects of the picture. Boxes are xyxy, in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.ops import boxes as ops
from vitrail.ops.tiles import Tile

AGREEING = 0.5  # intersection over union, or over the cut one, from which rows are of one object
COMPARABLE = 0.5  # of the best score of an object, from which another row has a say in where it ends
NEAR, CLOSE = 0.1, 2.0  # to a border: as a share of the box's side, and in pixels
LEAST = 1e-9  # area of a part, in pixels
FAINT = 0.01  # of the best score in the picture, below which a row says nothing
OTHERWISE = 0.2  # what a score of any class weighs beside one of the object's, where a tile has several rows there


class Merged(NamedTuple):
    """The objects of a picture."""

    rows: Tensor
    """(m, K+4)."""
    parts: list[list[int]]
    """Of each, the rows that it consists of: a whole one, or all of one that no tile shows in full."""


def merged(rows: Tensor, number: Tensor, tiles: Sequence[Tile]) -> Merged:
    """Rows (n, K+4) with the place of each one's tile among ``tiles``, int64 (n,) → the objects of the picture.

    From the best score on, a row takes in one of each further tile that agrees with it. The box is the mean of those
    that are not cut, by their scores, or, where the best of them does not hold all others, the union of all. Cut rows
    of further tiles that are of that object are left out.
    """
    if len(tiles) == 1:
        return Merged(rows, [[row] for row in range(len(rows))])
    best = rows[:, :-4].amax(dim=1)
    chosen = (best >= FAINT * best.max()).nonzero().flatten() if len(rows) else torch.arange(0)
    found, parts = _Merging(rows[chosen], number[chosen], tiles).merged()
    return Merged(found, [chosen[part].tolist() for part in parts])


class _Merging:
    """One picture's rows, and which of them are one object's.

    Attributes:
        best, label: of each row, its best score and that score's class.
        inner: which borders of tiles lie inside the picture, bool (tiles, 4).
        of_tile: the rows of each tile.
        agreement: of two tiles that overlap, (first's rows, second's rows), how well they agree; 0: not of one object.
        left: which are of no object so far.
    """

    def __init__(self, rows: Tensor, number: Tensor, tiles: Sequence[Tile]) -> None:
        self.rows, self.number = rows, number.numpy()
        self.boxes, self.scores = rows[:, -4:].double(), rows[:, :-4].double()
        self.tiles = torch.tensor([tile.box_xyxy for tile in tiles], dtype=torch.float64)
        ends = torch.cat((self.tiles[:, :2].amin(dim=0), self.tiles[:, 2:].amax(dim=0)))
        self.inner = self.tiles != ends
        self.best: NDArray[np.float64] = self.scores.amax(dim=1).numpy()
        self.label: NDArray[np.int64] = self.scores.argmax(dim=1).numpy()
        self.cut = ~_seen(self.boxes, self.tiles[number], self.inner[number])
        self.left = np.ones(len(rows), bool)
        self.of_tile = [np.flatnonzero(self.number == tile) for tile in range(len(tiles))]
        self.agreement: dict[tuple[int, int], NDArray[np.float64]] = {}
        self.neighbours: list[list[int]] = [[] for _ in tiles]
        self._compare()

    def merged(self) -> Merged:
        """The objects, by the best score of any of their rows."""
        order = np.argsort(-self.best, kind="stable").tolist()
        found = [self._object(seed) for seed in order if self.left[seed]]
        kept = [(row, parts) for row, parts in found if float(row[:-4].max()) > 0]
        made = torch.stack([row for row, _ in kept]) if kept else self.rows[:0]
        return Merged(made.to(self.rows), [parts for _, parts in kept])

    def _object(self, seed: int) -> tuple[Tensor, list[int]]:
        """Scores and box of an object, and its parts."""
        members = self._members(seed)
        if len(members) == 1 and self._whole_in(self.boxes[seed]) == {int(self.number[seed])}:  # as its tile says
            return torch.cat((self.scores[seed], self.boxes[seed])), [seed]
        sure = [member for member in members if self.best[member] >= COMPARABLE * self.best[seed]]
        parts = self._parts(sorted(sure, key=lambda member: -self.best[member]))
        box = self._box(parts, sure)
        whole = self._whole_in(box)
        if whole:
            scores = self.scores[[row for row in members if self.number[row] in whole]].sum(dim=0) / len(whole)
        else:
            areas = ops.area(self.boxes[sure]).clamp(min=LEAST)
            scores = areas @ self.scores[sure] / areas.sum()
        self._leave_out(members, box, whole)
        return torch.cat((scores, box)), parts

    def _members(self, seed: int) -> list[int]:
        """The row and one of each further tile that shows the same object, if there is any; they are taken. Where an
        object is cut, it goes on from tile to tile."""
        members, ends, tiles = [seed], [seed], {int(self.number[seed])}
        self.left[seed] = False
        for row in ends:
            for tile in self.neighbours[self.number[row]]:
                other = self._same(row, tile, seed) if tile not in tiles else None
                if other is None:
                    continue
                self.left[other] = False
                members.append(other)
                tiles.add(tile)
                if self.cut[seed] and self.cut[other] and self.best[other] >= COMPARABLE * self.best[seed]:
                    ends.append(other)
        return members

    def _same(self, row: int, tile: int, seed: int) -> int | None:
        """A tile's row of the same object: the one of the seed's class that agrees best, or of any."""
        rows = self.of_tile[tile]
        own = np.searchsorted(self.of_tile[self.number[row]], row)
        agreement = self.agreement[int(self.number[row]), tile][own] * self.left[rows]
        value = agreement * (self.scores.numpy()[rows, self.label[seed]] + OTHERWISE * self.best[rows])
        first = int(value.argmax())
        return int(rows[first]) if value[first] > 0 else None

    def _parts(self, members: list[int]) -> list[int]:
        """The best one that is not cut, if it holds the others; else all."""
        for member in members:
            if not self.cut[member]:
                held = ops.inside(self.boxes[members], self.boxes[member]) >= AGREEING
                return [member] if held.all() else members
        return members

    def _box(self, parts: list[int], sure: list[int]) -> Tensor:
        """Of all parts, or of what is not cut the mean, by the scores."""
        if len(parts) > 1 or self.cut[parts[0]]:
            return torch.cat((self.boxes[parts, :2].amin(dim=0), self.boxes[parts, 2:].amax(dim=0)))
        whole = [row for row in sure if not self.cut[row]]
        weights = torch.from_numpy(self.best[whole])
        return weights @ self.boxes[whole] / weights.sum()

    def _whole_in(self, box: Tensor) -> set[int]:
        """The tiles that see all of a box, and beyond."""
        return set(np.flatnonzero(_seen(box, self.tiles, self.inner)).tolist())

    def _leave_out(self, members: Sequence[int], box: Tensor, whole: Set[int]) -> None:
        """Drop what is left of an object in tiles that cut it: parts of its class, and what is mistaken for another."""
        own = {int(self.number[member]) for member in members}
        near = own.union(*(self.neighbours[tile] for tile in own)) - whole
        rows = np.concatenate([self.of_tile[tile] for tile in sorted(near)] or [np.empty(0, np.int64)])
        rows = rows[self.left[rows] & self.cut[rows]]
        if not len(rows):
            return
        seen = _common(box, self.tiles[self.number[rows]])
        part = ops.inside(self.boxes[rows], box).numpy() * (self.label[rows] == self.label[members[0]])
        self.left[rows[np.maximum(part, ops.iou(self.boxes[rows], seen).numpy()) >= AGREEING]] = False

    def _compare(self) -> None:
        """Fill in what agrees, by pairs of tiles that overlap."""
        filled = np.array([tile for tile, rows in enumerate(self.of_tile) if len(rows)])
        for place, a in enumerate(filled.tolist()):
            both = _common(self.tiles[a], self.tiles[filled[place + 1 :]])
            for later in (ops.area(both) > 0).nonzero().flatten().tolist():
                b = int(filled[place + 1 + later])
                agreement = self._agreement(self.of_tile[a], self.of_tile[b], both[later]).numpy()
                self.agreement[a, b], self.agreement[b, a] = agreement, agreement.T
                self.neighbours[a].append(b)
                self.neighbours[b].append(a)

    def _agreement(self, a: NDArray[np.int64], b: NDArray[np.int64], both: Tensor) -> Tensor:
        """How well rows of two tiles agree, in (0, 1], (len(a), len(b)); 0 where they are of two objects."""
        one, other = self.boxes[a][:, None], self.boxes[b][None]
        cut, other_cut = torch.from_numpy(self.cut[a])[:, None], torch.from_numpy(self.cut[b])[None]
        either = (cut | other_cut)[..., None]
        overlap = ops.iou(*(torch.where(either, _common(box, both), box) for box in (one, other)))
        share = torch.maximum(ops.inside(one, other) * cut, ops.inside(other, one) * other_cut)
        same = torch.from_numpy(self.label[a][:, None] == self.label[b][None])
        agreement = torch.maximum(overlap, share * same)
        return agreement * (agreement >= AGREEING)


def _seen(boxes: Tensor, tiles: Tensor, inner: Tensor) -> NDArray[np.bool_]:
    """bool (n,): whether a tile shows a box and what is around it, or the picture ends there."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    margin = (NEAR * torch.cat((sides, sides), dim=-1)).clamp(min=CLOSE)
    within = torch.cat(((boxes - tiles)[..., :2], (tiles - boxes)[..., 2:]), dim=-1)
    found: NDArray[np.bool_] = ((within > margin) | ~inner).all(dim=-1).numpy()
    return found


def _common(a: Tensor, b: Tensor) -> Tensor:
    """What both boxes hold; one that ends before it begins where that is nothing."""
    return torch.cat((torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])), dim=-1)
