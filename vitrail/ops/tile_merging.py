"""Objects found tile by tile, of which those that several tiles show become one.

A detection is *cut* where it reaches its tile's border inside the picture: what it shows may go on beyond. Where two
tiles look at the same pixels, detections of one object must agree, so they are compared there, by intersection over
union; and what is cut off a small object lies in the object, so a cut one is compared by the share of itself, too
(intersection over smaller: Akyon et al. 2022, "Slicing Aided Hyper Inference", SAHI, postprocessing). Detections of one
tile are of different objects, as the set prediction of each says.

Shapes: n detections of all tiles, m objects of the picture. Boxes are xyxy, in pixels of the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.ops import boxes as ops
from vitrail.ops.detections import Detections
from vitrail.ops.grid import Pair

AGREEING = 0.5  # intersection over union, or over the cut one, from which detections are of one object
COMPARABLE = 0.5  # of the best score of an object, from which another detection has a say in where it ends
NEAR, CLOSE = 0.1, 2.0  # to a border: as a share of the box's side, and in pixels
LEAST = 1e-6  # agreement of what only one tile saw enough of


class Merged(NamedTuple):
    """The objects of a picture, best score first."""

    found: Detections
    """m of them; ``query`` is the detection that each has its score from."""
    parts: list[list[int]]
    """Of each, the detections that it consists of: a whole one, or all of one that no tile shows in full."""


def merged(found: Detections, tiles: Tensor, size: Pair) -> Merged:
    """Detections with the tile of each, boxes (n, 4), in a picture of ``size`` (height, width) → its objects.

    From the best score on, a detection takes in those of the other tiles, one each, that agree with it: their score
    gives way, and the box is that of the best detection that is not cut, or, where none holds all of the others, the
    union of all. Cut ones of further tiles that lie in that box are left out. A class is merged by itself.
    """
    rule = _Rule(found, tiles, size)
    groups = rule.groups()
    seeds = [seed for seed, _, _ in groups]
    rows = torch.tensor(seeds, dtype=torch.int64)
    boxes = [box for _, _, box in groups]
    placed = torch.stack(boxes) if boxes else found.boxes_xyxy[:0]
    return Merged(Detections(found.labels[rows], found.scores[rows], placed, rows), [parts for _, parts, _ in groups])


class _Rule:
    """One picture's detections, and which of them are one object's.

    Attributes:
        agreeing: of each detection those of other tiles that may be of its object, and how well they agree.
        left: which are of no object so far.
    """

    def __init__(self, found: Detections, tiles: Tensor, size: Pair) -> None:
        self.found, self.boxes, self.tiles = found, found.boxes_xyxy.double(), tiles.double()
        touching = _cut(self.boxes, self.tiles, size)
        self.cut: list[bool] = touching.tolist()
        self.number: list[int] = torch.unique(self.tiles, dim=0, return_inverse=True)[1].tolist()
        self.scores: list[float] = found.scores.tolist()
        self.labels: list[int] = found.labels.tolist()
        self.agreeing: dict[int, dict[int, float]] = defaultdict(dict)
        self.left = [True] * len(self.scores)
        self._compare(touching)

    def groups(self) -> list[tuple[int, list[int], Tensor]]:
        """Of each object: where its score is from, its parts, its box; best first."""
        order = sorted(range(len(self.scores)), key=lambda row: -self.scores[row])
        return [self._group(seed) for seed in order if self.left[seed]]

    def _group(self, seed: int) -> tuple[int, list[int], Tensor]:
        self.left[seed] = False
        if not self.agreeing[seed]:
            return seed, [seed], self.found.boxes_xyxy[seed]
        members, tiles = [seed], {self.number[seed]}
        for member in members:  # grows along the way, where a cut object goes on from tile to tile
            if member != seed and not (self.cut[seed] and self.cut[member]):
                continue
            for other in self._of_one_object(member, tiles, seed):
                self.left[other] = False
                if self._counts(other, seed):
                    members.append(other)
                    tiles.add(self.number[other])
        members.sort(key=lambda member: -self.scores[member])
        parts = self._parts(members)
        own = self.found.boxes_xyxy[parts]
        box = torch.cat((own[:, :2].amin(dim=0), own[:, 2:].amax(dim=0)))
        self._leave_out(seed, box, range(len(self.scores)) if len(parts) > 1 else self.agreeing[parts[0]], tiles)
        return seed, parts, box

    def _counts(self, other: int, seed: int) -> bool:
        return self.scores[other] >= COMPARABLE * self.scores[seed]

    def _parts(self, members: list[int]) -> list[int]:
        """The best one that is not cut, if it holds the others; else all."""
        for member in members:
            if not self.cut[member]:
                held = ops.inside(self.boxes[members], self.boxes[member]) >= AGREEING
                return [member] if held.all() else members
        return members

    def _of_one_object(self, one: int, tiles: Set[int], seed: int) -> list[int]:
        """Of each further tile the detection that shows the same object as this one, if there is any: of those that
        are sure enough the one that agrees best, else the surest."""
        best: dict[int, tuple[bool, float, int]] = {}
        for row, agreement in self.agreeing[one].items():
            if self.left[row] and self.number[row] not in tiles:
                sure = self._counts(row, seed)
                value = sure, self.scores[row] * (agreement if sure else 1), -row
                best[self.number[row]] = max(value, best.get(self.number[row], value))
        return [-row for _, _, row in best.values()]

    def _leave_out(self, seed: int, box: Tensor, rows: Iterable[int], tiles: Set[int]) -> None:
        """Drop what further tiles show of an object."""
        strange = [row for row in rows if self.left[row] and self.cut[row] and self.number[row] not in tiles]
        within = ops.inside(self.boxes[strange], box.double()) >= AGREEING
        for row, inside in zip(strange, within.tolist(), strict=True):
            if inside and self.labels[row] == self.labels[seed]:
                self.left[row] = False

    def _compare(self, cut: Tensor) -> None:
        """Fill in what agrees, by pairs of tiles that overlap."""
        of_tile = defaultdict[int, list[int]](list)
        for row, number in enumerate(self.number):
            of_tile[number].append(row)
        tiles = self.tiles[[rows[0] for rows in of_tile.values()]]
        rows_of = list(of_tile.values())
        for place, a in enumerate(rows_of):
            both = _common(tiles[place], tiles[place + 1 :])
            for later in (ops.area(both) > 0).nonzero().flatten().tolist():
                b = rows_of[place + 1 + later]
                agreement = self._agreement(a, b, both[later], cut)
                for i, j in agreement.nonzero().tolist():
                    value = float(agreement[i, j])
                    self.agreeing[a[i]][b[j]] = self.agreeing[b[j]][a[i]] = value

    def _agreement(self, a: list[int], b: list[int], both: Tensor, cut: Tensor) -> Tensor:
        """How well detections of two tiles agree, in (0, 1], (len(a), len(b)); 0 where they are of two objects."""
        one, other = self.boxes[a][:, None], self.boxes[b][None]
        one_cut, other_cut = cut[a][:, None], cut[b][None]
        either = (one_cut | other_cut)[..., None]
        seen = (torch.where(either, _common(box, both), box) for box in (one, other))
        overlap = ops.iou(*seen)
        share = torch.maximum(ops.inside(one, other) * one_cut, ops.inside(other, one) * other_cut)
        same = self.found.labels[a][:, None] == self.found.labels[b][None]
        return overlap.clamp(min=LEAST) * (same & (torch.maximum(overlap, share) >= AGREEING))


def _cut(boxes: Tensor, tiles: Tensor, size: Pair) -> Tensor:
    """bool (n,): whether a box reaches a border of its tile that is none of the picture's."""
    ends = tiles.new_tensor([0, 0, size[1], size[0]])
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).repeat(1, 2)
    near = (boxes - tiles).abs() <= (NEAR * sides).clamp(min=CLOSE)
    return (near & (tiles != ends)).any(dim=1)


def _common(a: Tensor, b: Tensor) -> Tensor:
    """What both boxes hold; one that ends before it begins where that is nothing."""
    return torch.cat((torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])), dim=-1)
