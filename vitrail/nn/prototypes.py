"""The head of self-distillation, discarded after pretraining. D width, K prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from vitrail.nn.init import initialise


class PrototypeHead(nn.Module):
    """An MLP of three layers onto the unit sphere, and the cosines to K prototypes there (Caron et al. 2021, appendix
    C, with the last layer normalised).

    Attributes:
        learning: factor on the gradient of the prototypes; 0 freezes them.
    """

    learning: Tensor

    def __init__(self, dim: int, hidden_dim: int, bottleneck_dim: int, num_prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        self.prototypes = nn.Linear(bottleneck_dim, num_prototypes, bias=False)
        self.register_buffer("learning", torch.ones(()))
        initialise(self.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """B D → B K in float32, from -1 to 1."""
        weight = self.prototypes.weight
        # Not detached altogether: DDP waits for a gradient of every parameter.
        prototypes = normalize(torch.lerp(weight.detach(), weight, self.learning), dim=1)
        return linear(normalize(self.mlp(x), dim=1), prototypes).float()
