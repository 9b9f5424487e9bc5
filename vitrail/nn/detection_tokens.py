"""Detection tokens: objects that a plain ViT finds by itself (Fang et al. 2021, YOLOS).

Shapes: B images, T tokens, D width, L blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attend import Attend, Positions
from vitrail.nn.block import Block


@dataclass(frozen=True)
class AddBetween:
    """An ``Attend`` that adds learned vectors to the tokens after each block but the last (``mid_pos_embed`` in YOLOS's
    code).

    Attributes:
        added: L−1 T D.
        plain: runs the blocks.
    """

    added: Tensor
    plain: Attend

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D."""
        x = self.plain(layer, block, x, positions)
        return x + self.added[layer].to(x.dtype) if layer < self.added.shape[0] else x


class TokenMlp(nn.Module):
    """Three layers with ReLU between them: (..., D) → (..., outputs) (Carion et al. 2020, DETR, section 3.2)."""

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.fc3 = nn.Linear(dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
        return y
