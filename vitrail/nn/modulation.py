"""Layer norms whose shift and scale follow a condition, such as a time and a class (Peebles & Xie 2023, DiT).

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.init import Initialised


class Modulation(NamedTuple):
    """What a condition does to one branch of a block: B 1 D each.

    Attributes:
        shift, scale: of the normalised input.
        gate: of the output, before it joins the residual stream.
    """

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def modulate(self, normalised: Tensor) -> Tensor:
        """B T D → B T D."""
        return modulate(normalised, self.shift, self.scale)


def modulate(normalised: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """normalised · (1 + scale) + shift, B T D."""
    return torch.addcmul(shift, normalised, 1 + scale)


class ConditionMap(Initialised):
    """SiLU and a linear layer, which is zero at first ("adaLN-Zero"): a condition B D → ``count`` tensors B 1 D."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(dim, count * dim)

    def finish_reset(self) -> None:
        """Zero: a fresh block adds nothing to its input."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(condition)).unsqueeze(1).chunk(self.count, dim=-1)


class BlockModulation(ConditionMap):
    """The modulations of a block's two branches."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 6)

    def branches(self, condition: Tensor) -> tuple[Modulation, Modulation]:
        """A condition B D → those of attention and of the MLP."""
        parts = self(condition)
        return Modulation(*parts[:3]), Modulation(*parts[3:])
