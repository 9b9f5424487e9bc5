"""Feed-forward halves with a LayerNorm between their two layers (Shleifer et al. 2021, NormFormer; EVA-02)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.mlp import Mlp, MlpKind, SwiGLU


class NormedMlp(Mlp):
    """fc2(N(GELU(fc1(x)))), D → hidden → D."""

    def __init__(
        self, dim: int, hidden: int, kind: MlpKind = "gelu", dropout: float = 0.0, norm_eps: float = 1e-6
    ) -> None:
        super().__init__(dim, hidden, kind, dropout)
        self.norm = nn.LayerNorm(hidden, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.dropout(self.activation(self.fc1(x)))))


class NormedSwiGLU(SwiGLU):
    """fc2(N(SiLU(gate) · value)) with [gate, value] = fc1(x)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, norm_eps: float = 1e-6) -> None:
        super().__init__(dim, hidden, dropout)
        self.norm = nn.LayerNorm(hidden, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(self.norm(self.dropout(F.silu(gate) * value)))
