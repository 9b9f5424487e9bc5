"""Vectors that stand for a time of a diffusion and for a class.

Shapes: B batch, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.init import Initialised

NO_CLASS = -1
"""The label of an image whose class is not told."""


class TimeEmbedding(Initialised):
    """Times B → B D: sinusoids, then two linear layers with SiLU between them (Peebles & Xie 2023).

    Args:
        num_sinusoids: half of them cosines, half sines, with periods from 2π to 10,000 · 2π.
        end: exponents are i / (num_sinusoids / 2 − end): 0 as in DiT, or 1, where the longest period is reached
            (diffusers).
    """

    def __init__(self, dim: int, num_sinusoids: int = 256, end: int = 0) -> None:
        super().__init__()
        self.num_sinusoids, self.end = num_sinusoids, end
        self.fc1 = nn.Linear(num_sinusoids, dim)
        self.fc2 = nn.Linear(dim, dim)

    def finish_reset(self) -> None:
        """Small kernels (DiT's code)."""
        nn.init.normal_(self.fc1.weight, std=0.02)
        nn.init.normal_(self.fc2.weight, std=0.02)

    def forward(self, times: Tensor) -> Tensor:
        half = self.num_sinusoids // 2
        # in this order, as others do: a rounding of the frequencies is a thousand times as large in the angles
        exponents = -math.log(10_000) * torch.arange(half, device=times.device, dtype=torch.float32)
        angles = times.float()[:, None] * torch.exp(exponents / (half - self.end))
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.fc2(F.silu(self.fc1(waves.to(self.fc1.weight.dtype))))


class ClassEmbedding(Initialised):
    """Labels int64 B → B D; a further row, the last, stands for no class (:data:`NO_CLASS`; Ho & Salimans 2022)."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, dim)

    def finish_reset(self) -> None:
        """Small."""
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels: Tensor) -> Tensor:
        return self.table(torch.where(labels < 0, self.table.num_embeddings - 1, labels))
