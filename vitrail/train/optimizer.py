"""Optimizers and their parameter groups: learning rate by layer, weight decay by kind of parameter, freezing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Annotated, Any, Literal, TypedDict, cast

import torch
from pydantic import Field, model_validator
from torch import nn

from vitrail.config import config
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.schedules import cosine
from vitrail.train.lamb import Lamb
from vitrail.trainable import Trainable

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
KERNELS = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)


@config
class OptimizerConfig:
    """The update rule and the peak learning rate, absolute (``lr``) or per 256 images of a batch (``base_lr``)."""

    name: Literal["adamw", "sgd", "lamb", "adam"] = "adamw"
    lr: Positive | None = None  # neither given: 1e-3
    base_lr: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # of kernels only; adam adds it to the gradient (L2)
    final_weight_decay: Annotated[float, Field(ge=0)] | None = None  # reached along a cosine; None: constant
    betas: tuple[Share, Share] = (0.9, 0.999)  # adamw, adam, lamb
    eps: Positive = 1e-8  # adamw, adam, lamb
    momentum: Share = 0.9  # sgd
    nesterov: bool = False  # sgd
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # lr factor from each layer to the one before it
    backbone_lr: Positive = 1.0  # lr of the backbone as a share of the head's

    @model_validator(mode="after")
    def _one_rate(self) -> OptimizerConfig:
        if self.lr is not None and self.base_lr is not None:
            raise ValueError("give lr (absolute) or base_lr (per 256 images), not both")
        return self

    def peak_lr(self, batch_size: int) -> float:
        """The peak learning rate for ``batch_size`` images per step, over all ranks."""
        if self.base_lr is not None:
            return self.base_lr * batch_size / 256
        return 1e-3 if self.lr is None else self.lr


class Group(TypedDict):
    """A parameter group of torch.optim, with its peak learning rate and whether it has weight decay."""

    params: list[nn.Parameter]
    lr: float
    peak_lr: float
    weight_decay: float
    decays: bool


def build(model: Trainable, config: OptimizerConfig, *, batch_size: int) -> torch.optim.Optimizer:
    """The optimizer over the model's trainable parameters. Each group has its peak rate under ``peak_lr``.

    Raises:
        UserError: every parameter is frozen.
    """
    found = parameter_groups(model, config, config.peak_lr(batch_size))
    if not found:
        raise UserError("every parameter is frozen; leave something to train")
    fused = _can_fuse(p for group in found for p in group["params"])
    groups = cast("list[dict[str, Any]]", found)  # torch's type of them
    if config.name == "lamb":
        return Lamb(groups, betas=config.betas, eps=config.eps)
    if config.name == "sgd":
        sgd = torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
        for parameter in (p for group in found for p in group["params"] if config.momentum):
            # What a first step begins from. Fused kernels need that of all or none, and some may be frozen at first.
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    rule = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return rule(groups, betas=config.betas, eps=config.eps, fused=fused)


def parameter_groups(model: Trainable, config: OptimizerConfig, lr: float) -> list[Group]:
    """Trainable parameters grouped by learning rate and weight decay, in a fixed order."""
    decaying = kernels(model)
    distance = distance_to_head(model)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** distance.get(parameter, 0)
            scale *= config.backbone_lr if parameter in distance else 1.0
            decays = parameter in decaying
            groups[lr * scale, config.weight_decay if decays else 0.0, decays].append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay, "decays": decays}
        for (rate, decay, decays), parameters in groups.items()
    ]


def set_rates(optimizer: torch.optim.Optimizer, config: OptimizerConfig, factor: float, progress: float) -> None:
    """Set every group to ``factor`` of its peak, and the decay of kernels to its value at ``progress`` (0 … 1)."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        if config.final_weight_decay is not None and group["decays"]:
            group["weight_decay"] = cosine(config.weight_decay, config.final_weight_decay, progress)


def kernels(model: nn.Module) -> set[torch.Tensor]:
    """The weights that decay: kernels of linear and convolution layers. No bias, norm, scale, token or position."""
    return {module.weight for module in model.modules() if isinstance(module, KERNELS) and module.weight.ndim > 1}


def distance_to_head(model: Trainable) -> dict[nn.Parameter, int]:
    """Layers from each parameter of an encoder to the head: 1 for the last block, depth + 1 for the embedding.

    The final norm belongs to the last block, as in timm (to the head in BEiT, Bao et al. 2021).
    """
    distance: dict[nn.Parameter, int] = {}
    for encoder in model.encoders().values():
        layers = encoder.parameters_by_layer()
        distance |= {parameter: len(layers) - i for i, layer in enumerate(layers) for parameter in layer}
    return distance


def freeze(model: Trainable, patterns: Iterable[str]) -> int:
    """Freeze the parameters whose names match, e.g. ``vit.embed.*``; ``backbone`` means every encoder's.

    Returns:
        How many parameters are frozen.

    Raises:
        UserError: a pattern that matches nothing.
    """
    names = dict(model.named_parameters())
    for pattern in patterns:
        globs = list(model.encoders()) if pattern == "backbone" else [pattern]
        matching = [name for name in names if any(fnmatch(name, g) or name.startswith(f"{g}.") for g in globs)]
        if not matching:
            modules = {name.rpartition(".")[0] for name in names}
            raise UserError(f"nothing to freeze is called {pattern!r}; {did_you_mean(pattern, modules)}")
        for name in matching:
            names[name].requires_grad_(False)
    return sum(not parameter.requires_grad for parameter in names.values())


def train_mode(model: nn.Module) -> None:
    """Training mode, but without dropout or drop path in modules all of whose parameters are frozen."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _can_fuse(parameters: Iterable[torch.Tensor]) -> bool:
    return all(type(p) is nn.Parameter and p.device.type in ("cpu", "cuda") for p in parameters)
