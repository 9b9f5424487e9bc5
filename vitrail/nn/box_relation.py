"""What queries are told of each other's boxes (Hou et al. 2024, Relation-DETR, section 4.1).

Queries of one object must agree which of them keeps it. From their contents alone they learn slowly that they lie on
the same object; an attention bias from where the boxes lie to each other says it from the beginning.

Shapes: B images, Q queries, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.nn.init import Initialised

WAVELENGTHS = 4  # of the sines of each of the four relations
SCALE = 8.0  # of the relations in them: the fastest sine has a period of π / 4 in the logarithm of a ratio
SMALLEST = 1e-6  # side of a box, as a share of the image; a box of none has no logarithm
TEMPERATURE = 32.0  # from the shortest wavelength to the longest


class BoxRelation(Initialised):
    """Boxes B Q 4 → an attention bias B H Q Q, nothing at first."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(8 * WAVELENGTHS, heads)

    def finish_reset(self) -> None:
        """Attention begins without it."""
        nn.init.zeros_(self.linear.weight)

    def forward(self, boxes: Tensor) -> Tensor:
        """Row i, column j: how much query i is drawn to query j."""
        relations = pairwise(boxes)
        steps = torch.arange(WAVELENGTHS, device=boxes.device, dtype=relations.dtype) / WAVELENGTHS
        angles = (relations.unsqueeze(-1) * (SCALE * TEMPERATURE**-steps)).flatten(-2)
        return self.linear(torch.cat((angles.sin(), angles.cos()), dim=-1)).permute(0, 3, 1, 2)


def pairwise(boxes: Tensor) -> Tensor:
    """log(|Δx| / w + 1), log(|Δy| / h + 1), log(w / w'), log(h / h') of each two boxes cxcywh: B Q Q 4 (equation 4)."""
    centres, sizes = boxes.float()[..., :2], boxes.float()[..., 2:].clamp(min=SMALLEST)
    distance = (centres.unsqueeze(2) - centres.unsqueeze(1)).abs() / sizes.unsqueeze(2)
    ratio = sizes.log()
    return torch.cat((distance.log1p(), ratio.unsqueeze(2) - ratio.unsqueeze(1)), dim=-1)
