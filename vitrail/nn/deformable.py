"""Deformable attention: a query reads a few places of feature maps, which it chooses around its box (Zhu et al. 2021,
Deformable DETR, section 4.1). Made of ``grid_sample``, which every engine runs.

Shapes: B images, Q queries, L maps, P places of a map, D width, H heads of width d. Boxes are ``cxcywh`` as shares of
the canvas that the maps are of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.init import Initialised


class DeformableAttention(Initialised):
    """Σ weight · value over P places of each of L maps, by head.

    Places lie at (x, y) + offset / P · (width, height) / 2 of the query's box.

    Args:
        maps: L.
        points: P.
    """

    def __init__(self, dim: int, heads: int, maps: int, points: int) -> None:
        super().__init__()
        self.heads, self.maps, self.points = heads, maps, points
        self.offsets = nn.Linear(dim, heads * maps * points * 2)
        self.scores = nn.Linear(dim, heads * maps * points)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def finish_reset(self) -> None:
        """At first each head looks into a direction of its own, its places one behind the other, all alike."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.copy_((directions[:, None, None] * steps[:, None]).expand(-1, self.maps, -1, -1).flatten())
        nn.init.zeros_(self.scores.weight)

    def forward(
        self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor], hidden: Sequence[Tensor | None]
    ) -> Tensor:
        """B Q D → B Q D; sampling is in float32.

        Args:
            boxes: B Q 4.
            maps: B D h w each.
            hidden: bool B h w each, true where a cell is not the image's and counts as zero; None: nowhere.
        """
        places, weights = self.places(queries, boxes)
        found = []
        for number, (each, padding) in enumerate(zip(maps, hidden, strict=True)):
            height, width = each.shape[-2:]
            value = self.value(each.flatten(2).transpose(1, 2))
            if padding is not None:
                value = value.masked_fill(padding.flatten(1).unsqueeze(-1), 0)
            value = value.transpose(1, 2).unflatten(1, (self.heads, -1)).flatten(0, 1).unflatten(2, (height, width))
            at = (2 * places[:, :, number] - 1).flatten(0, 1)
            sampled = F.grid_sample(value.float(), at, mode="bilinear", padding_mode="zeros", align_corners=False)
            found.append((sampled * weights[:, :, number].flatten(0, 1).unsqueeze(1)).sum(dim=-1))  # B·H d Q
        mixed = torch.stack(found).sum(dim=0).unflatten(0, (queries.shape[0], self.heads)).flatten(1, 2).transpose(1, 2)
        return self.out(mixed.to(queries.dtype))

    def places(self, queries: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Where queries look, as shares of the canvas, B H L Q P 2, and how much each place counts, B H L Q P."""
        shape = (self.heads, self.maps, self.points)
        offsets = self.offsets(queries).float().unflatten(-1, (*shape, 2))
        centre, size = boxes.float()[:, :, None, None, None].chunk(2, dim=-1)
        places = centre + offsets / self.points * size * 0.5
        weights = self.scores(queries).float().unflatten(-1, (self.heads, -1)).softmax(dim=-1)
        return places.permute(0, 2, 3, 1, 4, 5), weights.unflatten(-1, shape[1:]).permute(0, 2, 3, 1, 4)

    def weights(
        self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor], hidden: Sequence[Tensor | None]
    ) -> Tensor:
        """How much of each cell of the maps a query reads, B H Q N; what it reads beyond them is missing from 1."""
        places, weights = self.places(queries, boxes)
        found = []
        for number, each in enumerate(maps):
            x, y = (
                _shares(places[:, :, number, ..., axis], length)
                for axis, length in ((0, each.shape[-1]), (1, each.shape[-2]))
            )
            found.append(torch.einsum("bhqp,bhqpy,bhqpx->bhqyx", weights[:, :, number], y, x).flatten(3))
        return torch.cat(found, dim=-1)


def _shares(places: Tensor, length: int) -> Tensor:
    """What a place (...) along a side of so many cells takes of each, bilinearly: (..., length)."""
    cells = torch.arange(length, device=places.device) + 0.5
    return (1 - (places.unsqueeze(-1) * length - cells).abs()).clamp(min=0)
