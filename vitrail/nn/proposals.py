"""Queries that start from the encoder's features: two-stage DETR.

Every cell of the feature maps proposes a class and a box around itself; the best proposals become the queries (Zhu et
al. 2021, Deformable DETR, section 4.2), with the cells' own features for content (Zhao et al. 2024, RT-DETR, section
4.3) or with learned ones (Zhang et al. 2023, DINO, section 3.4: mixed query selection). So queries need not learn to
search the image, which takes DETR many epochs.

Shapes: B images, N cells of all maps, Q queries, D width. Boxes are ``cxcywh`` as shares of the image.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vitrail.nn.box_refinement import BoxHead
from vitrail.nn.detr_decoder import Queries
from vitrail.nn.levels import Level

CELLS = 3.0  # side of the box that a proposal starts from
NO_CLASS = -100.0  # logit of a class that is impossible; finite, so that losses are


class Proposed(NamedTuple):
    """The proposals of all cells, and the queries made of the best."""

    logits: Tensor
    """B N width, of the classes."""
    boxes: Tensor
    """B N 4."""
    queries: Queries
    features: Tensor
    """B N D, of the cells."""
    cells: Tensor
    """B N 4, centre and size of each."""
    hidden: Tensor | None
    """bool B N, true where a cell is not the image's."""


class Proposals(nn.Module):
    """Feature maps → the proposals of their cells, and ``num_queries`` queries, of which an image has fewer if it has
    fewer cells.

    Args:
        num_outputs: width of the class logits.
        learned: the content of queries is learned, by the rank of their proposals; else it is the cells' features.
    """

    def __init__(self, dim: int, num_outputs: int, num_queries: int, learned: bool = False) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.norm = nn.LayerNorm(dim, 1e-6)
        self.score = nn.Linear(dim, num_outputs)
        self.box = BoxHead(dim)
        self.content = nn.Embedding(num_queries, dim) if learned else nn.Linear(dim, dim)

    def forward(self, levels: list[Level], num_classes: int) -> Proposed:
        """Cells of padding propose nothing, and learn nothing: their logits are those of no class.

        Args:
            num_classes: leading logits that stand for a class.
        """
        x = self.norm(torch.cat([level.map.flatten(2).transpose(1, 2) for level in levels], dim=1))
        logits = self.score(x)
        cells = torch.cat([_cells(level) for level in levels], dim=1)
        around = torch.cat((cells[..., :2], CELLS * cells[..., 2:]), dim=-1)
        boxes = self.box.refined(around, x)
        best = logits[..., :num_classes].amax(dim=-1).float()
        hidden = None
        if any(level.padding is not None for level in levels):
            hidden = torch.cat([cast("Tensor", level.padding).flatten(1) for level in levels], dim=1)
            best = best.masked_fill(hidden, -torch.inf)
            logits = without_class(logits, hidden, num_classes)
        chosen = best.topk(min(self.num_queries, best.shape[1]), dim=1).indices.unsqueeze(-1)
        if isinstance(self.content, nn.Embedding):
            content = self.content.weight[: chosen.shape[1]].to(x.dtype).expand(x.shape[0], -1, -1)
        else:
            content = self.content(x.detach().gather(1, chosen.expand(-1, -1, x.shape[-1])))
        queries = Queries(content, boxes.detach().gather(1, chosen.expand(-1, -1, 4)))
        return Proposed(logits, boxes, queries, x, cells, hidden)


def without_class(logits: Tensor, hidden: Tensor, num_classes: int) -> Tensor:
    """Logits B N width; those of hidden cells (bool B N) are of no class."""
    stands_for_class = torch.arange(logits.shape[-1], device=logits.device) < num_classes
    return logits.masked_fill(hidden.unsqueeze(-1) & stands_for_class, NO_CLASS)


def _cells(level: Level) -> Tensor:
    """Centre and size of each cell, B h·w 4."""
    rows, columns = level.y.shape[1], level.x.shape[1]
    x, y = level.x.unsqueeze(1).expand(-1, rows, -1), level.y.unsqueeze(2).expand(-1, -1, columns)
    size = level.cell[:, None, None].expand(-1, rows, columns, -1)
    return torch.cat((torch.stack((x, y), dim=-1), size), dim=-1).flatten(1, 2)
