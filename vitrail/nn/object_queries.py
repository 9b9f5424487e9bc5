"""Learned queries: a vector and an initial box each."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from vitrail.config import config
from vitrail.nn.box_refinement import logit
from vitrail.nn.detr_decoder import Queries
from vitrail.nn.init import Initialised


@config
class OneToManyConfig:
    """A second group of queries in training, of which several are matched to each object (Jia et al. 2023, H-DETR).

    Args:
        num_queries: of that group.
        repeats: how many of them an object has.
    """

    num_queries: Annotated[int, Field(gt=0, le=10_000)] = 300
    repeats: Annotated[int, Field(gt=0, le=100)] = 6


class ObjectQueries(Initialised):
    """A learned vector and a learned box per query (Liu et al. 2022, DAB-DETR)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.empty(count, dim))
        self.box_logits = nn.Parameter(torch.empty(count, 4))

    def reset_parameters(self) -> None:
        """Standard normal vectors; boxes with random centres, a quarter of the image on each side."""
        nn.init.normal_(self.content)
        centres, sizes = torch.rand(len(self.content), 2), torch.full((len(self.content), 2), 0.25)
        self.box_logits.copy_(logit(torch.cat((centres, sizes), dim=1)))

    def forward(self, num_images: int) -> Queries:
        """The same for each image."""
        content, boxes = self.content, self.box_logits.sigmoid()
        return Queries(content.expand(num_images, -1, -1), boxes.expand(num_images, -1, -1))
