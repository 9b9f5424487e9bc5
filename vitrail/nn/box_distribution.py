"""Refinement of distributions in the place of boxes: fine-grained distribution refinement (Peng et al. 2024, D-FINE,
section 4.1).

The first layer predicts boxes; it and every later one add to the logits of how far each side of those is off.

Shapes: B images, Q queries, D width, N intervals of the distributions.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.box_refinement import BoxHead
from vitrail.ops.box_distributions import Distribution, Shifts


@config
class DistributionConfig:
    """Args:
    intervals: between the shifts of a side that a distribution is over.
    reach: the largest usual shift, as a share of the box's side; the last one is twice as far.
    scale: how much closer together shifts around 0 are.
    localisation: weight of the loss of the distributions.
    distillation: weight of the distillation of the last layer's distributions to the layers before.
    """

    intervals: Annotated[int, Field(ge=4, le=256, multiple_of=2)] = 32
    reach: Annotated[float, Field(gt=0, le=8)] = 0.5
    scale: Annotated[float, Field(gt=0, le=64)] = 4.0
    localisation: Annotated[float, Field(ge=0, le=100)] = 0.15
    distillation: Annotated[float, Field(ge=0, le=100)] = 1.5

    @property
    def shifts(self) -> Shifts:
        """What distributions are over."""
        return Shifts(self.intervals, self.reach, self.scale)


class DistributionHead(nn.Module):
    """Queries B Q D and what the layer before said → their distributions and boxes; no shift at first."""

    def __init__(self, dim: int, config: DistributionConfig) -> None:
        super().__init__()
        self.shifts = config.shifts
        self.box = BoxHead(dim, 4 * (config.intervals + 1))

    def forward(self, x: Tensor, start: Tensor, before: Distribution | None) -> tuple[Tensor, Distribution]:
        """Boxes B Q 4 and distributions.

        Args:
            start: the boxes B Q 4 that shifts are from, where there is no ``before``; it learns nothing here.
        """
        logits = self.box(x).float().unflatten(-1, (4, -1))
        found = (
            Distribution(logits, start.detach())
            if before is None
            else Distribution(before.logits + logits, before.start)
        )
        return self.shifts.boxes(found.start, self.shifts.expected(found.logits)), found
