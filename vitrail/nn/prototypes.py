"""The head of self-distillation, discarded after pretraining. D width, K prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from vitrail.nn.init import initialise


class PrototypeHead(nn.Module):
    """An MLP of three layers onto the unit sphere, and the products with K prototypes (Caron et al. 2021, appendix C).

    Args:
        normalise: prototypes have length 1, so outputs are cosines; else each learns its length, which is 1 at first.
    """

    def __init__(
        self, dim: int, hidden_dim: int, bottleneck_dim: int, num_prototypes: int, *, normalise: bool = True
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        self.prototypes = nn.Linear(bottleneck_dim, num_prototypes, bias=False)
        self.register_buffer("learning", torch.ones(()))  # read by nothing: files of version 0.1.0 have it
        self.lengths = None if normalise else nn.Parameter(torch.ones(num_prototypes, 1))
        initialise(self.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """B D → B K in float32."""
        prototypes = normalize(self.prototypes.weight, dim=1)
        if self.lengths is not None:
            prototypes = prototypes * self.lengths
        return linear(normalize(self.mlp(x), dim=1), prototypes).float()

    def freeze(self) -> None:
        """Drop the gradient of the prototypes and of their lengths."""
        self.prototypes.weight.grad = None
        if self.lengths is not None:
            self.lengths.grad = None
