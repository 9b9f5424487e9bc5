"""Denoising queries (Li et al. 2022, DN-DETR): in training, objects with noise are additional queries, to be restored
without a matching, which is unstable at first. Contrastive ones (Zhang et al. 2023, DINO, section 3.3) come with others
that have more noise, and learn that these are no object, though one is near.

Shapes: B images, G groups, n the most objects of an image, D width.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.box_refinement import LEAST
from vitrail.nn.detr_decoder import Queries
from vitrail.ops.matching import Pairs
from vitrail.ops.set_losses import Truth


@config
class DenoisingConfig:
    """Args:
    groups: noised copies of an image's objects.
    box: how far centres move, as a share of half the size, and by which share sizes change, at most.
    label: how often another class is given.
    contrastive: with each noised object comes one of more noise, from once to twice ``box``, that is of no object.
    """

    groups: Annotated[int, Field(gt=0, le=100)] = 4
    box: Annotated[float, Field(ge=0, lt=1)] = 0.4
    label: Annotated[float, Field(ge=0, lt=1)] = 0.2
    contrastive: bool = False

    @property
    def queries_per_object(self) -> int:
        """In a group."""
        return 2 if self.contrastive else 1


class Noised(NamedTuple):
    """Queries and the objects they were made of."""

    queries: Queries
    image: Tensor
    """(M,) of each query that was made of an object, those with little noise first."""
    query: Tensor
    """(M,) its place among the image's queries."""
    pairs: Pairs
    """Of the M, as of one image, those that are to find their object."""


class Denoising(nn.Module):
    """Draws noised queries from torch's global random state."""

    def __init__(self, num_classes: int, dim: int, config: DenoisingConfig) -> None:
        super().__init__()
        self.config = config
        self.label = nn.Embedding(num_classes, dim)

    def forward(self, truth: Truth) -> Noised:
        """One query per object and group, or two, B G·n; surplus queries of images with fewer objects are masked."""
        config, device = self.config, truth.labels.device
        counts = torch.tensor(truth.counts, device=device)
        num_images, most = len(counts), max(max(truth.counts), 1)
        size = most * config.queries_per_object
        places = torch.arange(config.groups * size, device=device)
        group, rank, far = places // size, places % most, places % size >= most
        valid = rank < counts.unsqueeze(1)
        image, query = self._near_first(valid, far)
        target = (counts.cumsum(0) - counts)[image] + rank[query]

        other = torch.randint(self.label.num_embeddings, target.shape, device=device)
        flipped = torch.rand(target.shape, device=device) < config.label
        content = self.label.weight.new_zeros(num_images, len(places), self.label.embedding_dim)
        content = content + 0 * self.label.weight.sum()  # used in every step, as DDP requires
        content[image, query] = self.label(torch.where(flipped, other, truth.labels[target]))
        boxes = truth.boxes.new_full((num_images, len(places), 4), 0.5)
        boxes[image, query] = self._moved(truth.boxes[target], far[query])
        itself = places.unsqueeze(1) == places
        sees = (group.unsqueeze(1) == group) & valid.unsqueeze(1) | itself
        near = (~far[query]).nonzero().squeeze(1)
        pairs = Pairs(torch.zeros_like(near), near, target[near])
        return Noised(Queries(content, boxes, sees.unsqueeze(1)), image, query, pairs)

    @staticmethod
    def _near_first(valid: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Image and place of the valid queries (B, G·n)."""
        parts = [(valid & chosen).nonzero(as_tuple=True) for chosen in (~far, far)]
        image, query = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return image, query

    def _moved(self, boxes: Tensor, far: Tensor) -> Tensor:
        """Boxes (M, 4) with noise, of those that are ``far`` (M,) from once to twice as much as of the others."""
        noise = 2 * torch.rand_like(boxes) - 1
        noise = (noise + torch.where(noise < 0, -1, 1) * far.unsqueeze(1)) * self.config.box
        centre, size = boxes[:, :2], boxes[:, 2:]
        moved = torch.cat((centre + noise[:, :2] * size / 2, size * (1 + noise[:, 2:])), dim=1)
        return moved.clamp(LEAST, 1 - LEAST)
