"""Objects found in several views of an image, of which those that several views show become one, as between tiles.

Shapes: B images, V views, Q queries, K classes. Boxes are xyxy, in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.ops.grid import Pair
from vitrail.ops.tile_merging import merged
from vitrail.ops.tiles import Tile


class Views(NamedTuple):
    """The objects of each image, filled up with rows of zeros."""

    rows: Tensor
    """B V·Q K+4: mean scores and mean boxes."""
    query: Tensor
    """B V·Q int64: the surest of the queries of all views, one view after the other, that a row is made of."""


def merged_views(outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Views:
    """Outputs B Q K+4 of V views of an image of (height, width), some of them of its mirror image."""
    views = [_turned(each, size[1]) if turned else each for each, turned in zip(outputs, mirrored, strict=True)]
    whole = [Tile((0, size[0]), (0, size[1]))] * len(views)
    number = torch.arange(len(views)).repeat_interleave(views[0].shape[1])
    every = torch.cat(views, dim=1)
    rows, query = torch.zeros_like(every), torch.zeros(every.shape[:2], dtype=torch.int64)
    for image, own in enumerate(every.detach().float().cpu()):
        found, parts = merged(own, number, whole)
        rows[image, : len(found)] = found.to(rows)
        query[image, : len(found)] = torch.tensor([first for first, *_ in parts])
    return Views(rows, query.to(rows.device))


def _turned(rows: Tensor, width: int) -> Tensor:
    """Boxes of the mirror image as those of the image, in rows (..., K+4)."""
    scores, left, top, right, bottom = rows.split((rows.shape[-1] - 4, 1, 1, 1, 1), dim=-1)
    return torch.cat((scores, width - right, top, width - left, bottom), dim=-1)
