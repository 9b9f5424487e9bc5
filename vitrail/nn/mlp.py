"""The feed-forward half of a block."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.init import Initialised, separate_xavier_

MlpKind = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"]


class Mlp(Initialised):
    """fc2(GELU(fc1(x))), D → hidden → D.

    Args:
        kind: ``gelu`` is exact (erf, PyTorch's libraries), ``gelu_tanh`` the approximation of JAX's,
            ``quick_gelu`` x·σ(1.702 x) (OpenAI CLIP), ``relu`` that of
            ``nn.TransformerEncoderLayer``.
    """

    def __init__(self, dim: int, hidden: int, kind: MlpKind = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.kind = kind
        self.dropout = nn.Dropout(dropout)

    def finish_reset(self) -> None:
        """Biases near zero (the ViT paper's code)."""
        nn.init.normal_(self.fc1.bias, std=1e-6)
        nn.init.normal_(self.fc2.bias, std=1e-6)

    def activation(self, x: Tensor) -> Tensor:
        if self.kind == "quick_gelu":
            return x * (1.702 * x).sigmoid()
        if self.kind == "relu":
            return F.relu(x)
        return F.gelu(x, approximate="tanh" if self.kind == "gelu_tanh" else "none")

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation(self.fc1(x))))


class SwiGLU(Initialised):
    """fc2(SiLU(gate) · value) with [gate, value] = fc1(x) (Shazeer 2020; packed as in DINOv2)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def finish_reset(self) -> None:
        """Xavier-uniform on the kernels of gate and value apart, as if they were two layers."""
        separate_xavier_(self.fc1.weight, 2)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(self.dropout(F.silu(gate) * value))
