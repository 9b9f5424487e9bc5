"""Denoising queries (Li et al. 2022, DN-DETR): in training, objects with noise are additional queries, to be restored
without a matching, which is unstable at first.

Shapes: B images, G groups, n the most objects of an image, D width.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.detr_decoder import LEAST, Queries
from vitrail.ops.matching import Pairs
from vitrail.ops.set_losses import Truth


@config
class DenoisingConfig:
    """Args:
    groups: noised copies of an image's objects.
    box: how far centres move, as a share of half the size, and by which share sizes change, at most.
    label: how often another class is given.
    """

    groups: Annotated[int, Field(gt=0, le=100)] = 4
    box: Annotated[float, Field(ge=0, lt=1)] = 0.4
    label: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Noised(NamedTuple):
    """Queries and the objects they were made of."""

    queries: Queries
    pairs: Pairs


class Denoising(nn.Module):
    """Draws noised queries from torch's global random state."""

    def __init__(self, num_classes: int, dim: int, config: DenoisingConfig) -> None:
        super().__init__()
        self.config = config
        self.label = nn.Embedding(num_classes, dim)

    def forward(self, truth: Truth) -> Noised:
        """One query per object and group, B G·n; the surplus queries of images with fewer objects are masked."""
        config, device = self.config, truth.labels.device
        counts = torch.tensor(truth.counts, device=device)
        num_images, most = len(counts), max(max(truth.counts), 1)
        places = torch.arange(config.groups * most, device=device)
        group, rank = places // most, places % most
        valid = rank < counts.unsqueeze(1)
        image, query = valid.nonzero(as_tuple=True)
        target = (counts.cumsum(0) - counts)[image] + rank[query]

        other = torch.randint(self.label.num_embeddings, target.shape, device=device)
        flipped = torch.rand(target.shape, device=device) < config.label
        content = self.label.weight.new_zeros(num_images, len(places), self.label.embedding_dim)
        content = content + 0 * self.label.weight.sum()  # used in every step, as DDP requires
        content[image, query] = self.label(torch.where(flipped, other, truth.labels[target]))
        boxes = truth.boxes.new_full((num_images, len(places), 4), 0.5)
        boxes[image, query] = self._moved(truth.boxes[target])
        itself = places.unsqueeze(1) == places
        sees = (group.unsqueeze(1) == group) & valid.unsqueeze(1) | itself
        return Noised(Queries(content, boxes, sees.unsqueeze(1)), Pairs(image, query, target))

    def _moved(self, boxes: Tensor) -> Tensor:
        noise = (2 * torch.rand_like(boxes) - 1) * self.config.box
        centre, size = boxes[:, :2], boxes[:, 2:]
        moved = torch.cat((centre + noise[:, :2] * size / 2, size * (1 + noise[:, 2:])), dim=1)
        return moved.clamp(LEAST, 1 - LEAST)


def joined(groups: list[Queries]) -> Queries:
    """Several groups of queries in one batch, none of which attends to another."""
    content, boxes = (torch.cat([getattr(group, name) for group in groups], dim=1) for name in ("content", "boxes"))
    if len(groups) == 1:
        return groups[0]
    sees = torch.zeros(len(content), 1, content.shape[1], content.shape[1], dtype=torch.bool, device=content.device)
    start = 0
    for group in groups:
        end = start + group.content.shape[1]
        sees[:, :, start:end, start:end] = True if group.mask is None else group.mask
        start = end
    return Queries(content, boxes, sees)
