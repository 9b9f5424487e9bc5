"""From one vector an image to the outputs of a task."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config


@config
class HeadConfig:
    """[LayerNorm] → [Linear → activation] → dropout → Linear.

    Args:
        hidden: width of a hidden layer (the ViT paper's pre-logits), or None for a linear head.
        activation: of the hidden layer: ``tanh`` as in the paper, or ``gelu``.
        norm: LayerNorm after pooling, for backbones without a final norm.
    """

    hidden: Annotated[int, Field(gt=0, le=65536)] | None = None
    activation: Literal["tanh", "gelu"] = "tanh"
    norm: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Head(nn.Module):
    """B D → B K."""

    def __init__(self, dim: int, outputs: int, config: HeadConfig, norm_eps: float) -> None:
        super().__init__()
        self.activation = config.activation
        self.norm = nn.LayerNorm(dim, norm_eps) if config.norm else nn.Identity()
        self.hidden = nn.Linear(dim, config.hidden) if config.hidden else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden or dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """B D → B K."""
        x = self.norm(x)
        if self.hidden is not None:
            x = self.hidden(x)
            x = torch.tanh(x) if self.activation == "tanh" else F.gelu(x)
        return self.output(self.dropout(x))
