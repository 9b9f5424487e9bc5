"""A module whose parameters do not learn from one of its calls."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.func import functional_call


def frozen_call(module: nn.Module, *inputs: Tensor | None) -> Tensor:
    """``module(*inputs)``, whose gradient reaches the inputs and no parameter: who is judged learns, the judge not."""
    values = {name: value.detach() for name, value in module.named_parameters()}
    return cast("Tensor", functional_call(module, values, inputs))
