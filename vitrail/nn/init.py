"""Initial values: the rules of torch's layers, and the order in which modules set their own.

The plain-ViT baseline (Beyer et al. 2022) and what a PyTorch reproduction of it needed: Xavier-uniform on kernels that
are stored as one matrix separately (queries, keys, values), LeCun truncated-normal patch projection, zero output head.
What is particular to a module stands in its ``reset_parameters`` and ``finish_reset``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PRIOR = 0.01  # of a class that is rare


class Initialised(nn.Module):
    """A module that sets its own parameters."""

    def reset_parameters(self) -> None:
        """Set the parameters of this module alone, before those of its children."""

    def finish_reset(self) -> None:
        """Set what differs from the children's rules, after every module of the model has been reset."""


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Set every parameter of ``model`` in place, from torch's global random state (on meta there is nothing to set).

    Modules come in the order of ``model.modules()``, parents first: once to reset them, once to finish.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    for module in model.modules():
        if isinstance(module, Initialised):
            module.reset_parameters()
        else:
            _reset_layer(module)
    for module in model.modules():
        if isinstance(module, Initialised):
            module.finish_reset()


class skip_init(TorchFunctionMode):
    """Layers built within it draw no random first values, where weights from a file are to come.

    On the meta device there is nothing to draw, and yet torch takes as long for it as for all else of a layer.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def start_rare(*scores: nn.Linear) -> None:
    """Let each class begin with a probability of 1 % (Lin et al. 2017, section 4.1)."""
    for layer in scores:
        nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))


def lecun_normal_(weight: Tensor) -> None:
    """Truncated normal of variance 1/fan_in; 0.8796 is the deviation of a unit normal cut at ±2."""
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def separate_xavier_(weight: Tensor, num: int) -> None:
    """Xavier-uniform on each of the ``num`` kernels that are stored as one matrix, below one another.

    The shape of the whole matrix would give them a smaller range than layers of their own have.
    """
    for kernel in weight.unflatten(0, (num, -1)):
        nn.init.xavier_uniform_(kernel)


def zeros_if_any_(bias: Tensor | None) -> None:
    """Zeros, where there is a bias."""
    if bias is not None:
        nn.init.zeros_(bias)


def _reset_layer(module: nn.Module) -> None:
    """A layer of torch's; those not named here keep what torch drew."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        zeros_if_any_(module.bias)
    elif isinstance(module, nn.Conv2d):
        lecun_normal_(module.weight)
        zeros_if_any_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm) and module.weight is not None:
        nn.init.ones_(module.weight)
        zeros_if_any_(getattr(module, "bias", None))
