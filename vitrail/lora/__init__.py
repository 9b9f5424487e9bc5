"""Low-rank adapters (Hu et al. 2022, LoRA): a few numbers beside frozen weights, attached to a model from outside.

A kernel W of a frozen layer becomes W + (α / r) B A with A (r, in) and B (out, r), which are trained in its place. The
model's code knows nothing of it; when training is over the product is added to W, and the model costs what it did.

- :func:`attach`, :func:`merged`: of a model in memory;
- ``peft``: the files of Hugging Face's PEFT.
"""

from __future__ import annotations

import copy
import math
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vitrail.config import config
from vitrail.console import note
from vitrail.errors import UserError, did_you_mean
from vitrail.registry import submodules
from vitrail.trainable import EncoderModule

M = TypeVar("M", bound=nn.Module)


@config
class LoraConfig:
    """Args:
    rank: r, the number of rows of A.
    alpha: α; the product is scaled by α / r, so that another rank needs no other learning rate.
    targets: patterns of the names of linear layers inside the encoders' blocks, such as ``*.attention.*``.
    """

    rank: Annotated[int, Field(gt=0)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)


class Adapted(nn.Linear):
    """A linear layer whose kernel is W + (α / r) B A, with W and the bias of another layer. A is drawn as PEFT draws it
    and B is zero: at first the layer is what it was."""

    def __init__(self, layer: nn.Linear, config: LoraConfig) -> None:
        nn.Module.__init__(self)  # nothing is drawn for a kernel that is there already
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = config.alpha / config.rank
        self.lora_A = nn.Parameter(layer.weight.new_empty(config.rank, layer.in_features))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(layer.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def kernel(self) -> Tensor:
        """The sum (out, in)."""
        return self.weight + self.scale * (self.lora_B @ self.lora_A)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.kernel(), self.bias)

    @torch.no_grad()
    def flat(self) -> nn.Linear:
        """A plain layer with the sum as its kernel."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = nn.Parameter(self.kernel())
        layer.bias = self.bias
        return layer.train(self.training)


def attach(model: EncoderModule, config: LoraConfig) -> list[str]:
    """Freeze the encoders of a model and adapt linear layers of their blocks, in place; what lies outside the encoders,
    such as a head, stays trainable. Returns the names of the adapted layers.

    Raises:
        UserError: a pattern that matches nothing, or a rank that is no smaller than the layers.
    """
    found = {
        f"{path}.{name}": module
        for path, encoder in model.encoders().items()
        for name, module in encoder.named_modules()
        if name.startswith("blocks.") and isinstance(module, nn.Linear)
    }
    for pattern in config.targets:
        if not any(fnmatch(name, pattern) for name in found):
            raise UserError(f"no linear layer is called {pattern!r}; {did_you_mean(pattern, found)}")
    chosen = {name: each for name, each in found.items() if any(fnmatch(name, pattern) for pattern in config.targets)}
    smallest = min(min(module.weight.shape) for module in chosen.values())
    if config.rank >= smallest:
        raise UserError(f"rank {config.rank} is no less than the {smallest} rows of a layer; choose a smaller one")
    for encoder in model.encoders().values():
        encoder.requires_grad_(False)
    for name, module in chosen.items():
        _replace(model, name, Adapted(module, config))
    count = sum(layer.lora_A.numel() + layer.lora_B.numel() for _, layer in adapted(model))
    note(f"lora: {len(chosen)} layers adapted by {count:,} numbers; the encoder is frozen, the rest is trained")
    return list(chosen)


def adapted(model: nn.Module) -> list[tuple[str, Adapted]]:
    """The adapted layers by name."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Adapted)]


def merged(model: M) -> M:
    """A copy with each product added to its kernel, as the model's code and files hold it; without adapters the model
    itself."""
    if not adapted(model):
        return model
    copied = copy.deepcopy(model)
    for name, layer in adapted(copied):
        _replace(copied, name, layer.flat())
    return copied


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """A of each adapted layer as ``NAME.lora_A.weight``, B as ``NAME.lora_B.weight``."""
    found = {}
    for name, layer in adapted(model):
        found[f"{name}.lora_A.weight"] = layer.lora_A.detach()
        found[f"{name}.lora_B.weight"] = layer.lora_B.detach()
    return found


def rest(model: EncoderModule) -> dict[str, Tensor]:
    """The tensors outside the encoders by name, which are trained beside the adapters."""
    inside = tuple(f"{path}." for path in model.encoders())
    return {name: value for name, value in model.state_dict().items() if not name.startswith(inside)}


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
