"""From one vector per image to the outputs of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.init import Initialised, lecun_normal_


@config
class HeadConfig:
    """[LayerNorm] → [Linear → activation] → dropout → Linear.

    Args:
        hidden: width of a hidden layer (the ViT paper's pre-logits), or None for a linear head.
        activation: of the hidden layer: ``tanh`` as in the paper, ``gelu`` or ``relu``.
        norm: LayerNorm after pooling, for backbones without a final norm.
        bias: of the last layer.
        distilled: two linear heads, one for each half of a pooled vector (class | distillation token), whose
            outputs are averaged (Touvron et al. 2021, DeiT).
    """

    hidden: Annotated[int, Field(gt=0, le=65536)] | None = None
    activation: Literal["tanh", "gelu", "relu"] = "tanh"
    norm: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: bool = True
    distilled: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> HeadConfig:
        if self.distilled and (self.hidden or self.norm):
            raise ValueError("a distilled head is linear; leave out hidden and norm")
        return self


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "gelu": F.gelu, "relu": F.relu}


class Head(Initialised):
    """B D → B K; no outputs: the pooled vector, after the norm, is the result."""

    def __init__(self, dim: int, outputs: int, config: HeadConfig, norm_eps: float) -> None:
        super().__init__()
        self.activation = config.activation
        self.norm = nn.LayerNorm(dim, norm_eps) if config.norm else nn.Identity()
        self.hidden = nn.Linear(dim, config.hidden) if config.hidden else None
        self.dropout = nn.Dropout(config.dropout)
        width = dim // 2 if config.distilled else config.hidden or dim
        self.output = nn.Linear(width, outputs, bias=config.bias) if outputs else nn.Identity()
        self.distillation = nn.Linear(width, outputs, bias=config.bias) if config.distilled else None

    def finish_reset(self) -> None:
        """Outputs are zero at first; the hidden layer has LeCun's variance."""
        for output in (self.output, self.distillation):
            if isinstance(output, nn.Linear):
                nn.init.zeros_(output.weight)
        if self.hidden is not None:
            lecun_normal_(self.hidden.weight)

    def forward(self, x: Tensor) -> Tensor:
        """B D → B K."""
        if self.distillation is not None:
            class_token, distillation_token = self.dropout(x).chunk(2, dim=-1)
            return (self.output(class_token) + self.distillation(distillation_token)) / 2
        x = self.norm(x)
        if self.hidden is not None:
            x = self.hidden(x)
            x = _ACTIVATIONS[self.activation](x)
        return self.output(self.dropout(x))
