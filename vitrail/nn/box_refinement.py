"""How decoder layers refine boxes: from where they stand, by a change of their logits (Zhu et al. 2021, Deformable
DETR, section 4.2).

Shapes: B images, Q queries, D width. Boxes are ``cxcywh`` as shares of the image, in (0, 1).
"""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.nn.init import Initialised

LEAST = 1e-5  # how near a coordinate may come to 0 and 1


class BoxHead(Initialised):
    """Queries B Q D → how the logits of their boxes change, B Q 4, or ``num_outputs`` others; nothing at first."""

    def __init__(self, dim: int, num_outputs: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.output = nn.Linear(dim, num_outputs)

    def finish_reset(self) -> None:
        """Boxes stay as they are at first."""
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layers(x))

    def refined(self, boxes: Tensor, x: Tensor) -> Tensor:
        """The boxes B Q 4 of queries B Q D, each changed."""
        return (logit(boxes) + self(x).float()).sigmoid()


def logit(boxes: Tensor) -> Tensor:
    """The inverse of the sigmoid, bounded."""
    return boxes.float().clamp(LEAST, 1 - LEAST).logit()
