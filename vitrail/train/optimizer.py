"""Optimizers and their parameter groups: who decays, who learns at what rate, who is frozen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from vitrail.config import config
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.schedules import cosine
from vitrail.tasks import Task
from vitrail.train.lamb import Lamb

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
    final_weight_decay: Annotated[float, Field(ge=0)] | None = None  # where a cosine leads it; None: it stays
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


def build(task: Task, config: OptimizerConfig, *, batch_size: int) -> torch.optim.Optimizer:
    """The optimizer over the task's trainable parameters. Each group has its peak rate under ``peak_lr``."""
    groups = parameter_groups(task, config, config.peak_lr(batch_size))
    if not groups:
        raise UserError("every parameter is frozen; leave something to train")
    fused = _can_fuse(p for group in groups for p in group["params"])
    rule: dict[str, Any] = {"betas": config.betas, "eps": config.eps}
    if config.name == "lamb":
        return Lamb(groups, **rule)
    if config.name == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name](groups, fused=fused, **rule)


def parameter_groups(task: Task, config: OptimizerConfig, lr: float) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning rate and weight decay, in a fixed order."""
    kernels = kernel_names(task)
    depth = num_layers(task)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** (depth + 1 - layer_of(name, depth))
            scale *= config.backbone_lr if name.startswith("vit.") else 1.0
            decays = name in kernels
            groups[lr * scale, config.weight_decay if decays else 0.0, decays].append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay, "decays": decays}
        for (rate, decay, decays), parameters in groups.items()
    ]


def set_rates(optimizer: torch.optim.Optimizer, config: OptimizerConfig, factor: float, progress: float) -> None:
    """Set every group to ``factor`` of its peak, and the decay of kernels to what it is at ``progress`` (0 … 1)."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        if config.final_weight_decay is not None and group["decays"]:
            group["weight_decay"] = cosine(config.weight_decay, config.final_weight_decay, progress)


def kernel_names(task: Task) -> set[str]:
    """The weights that decay: kernels of linear and convolution layers. No bias, norm, scale, token or position."""
    return {
        f"{path}.weight".lstrip(".")
        for path, module in task.named_modules()
        if isinstance(module, KERNELS) and module.weight.ndim > 1
    }


def num_layers(task: Task) -> int:
    """The depth of the task's backbone."""
    return len(task.vit.blocks)


def layer_of(name: str, depth: int) -> int:
    """A parameter's layer for the layer-wise rate: 0 for the embedding, 1 … depth for blocks, depth + 1 for the head.

    The final norm goes with the last block, as in timm (with the head in BEiT, Bao et al. 2021).
    """
    if found := re.match(r"vit\.blocks\.(\d+)\.", name):
        return int(found[1]) + 1
    if name.startswith("vit.norm."):
        return depth
    return 0 if name.startswith("vit.") else depth + 1


def freeze(task: Task, patterns: Iterable[str]) -> int:
    """Freeze the parameters whose names match, e.g. ``vit.embed.*``; ``backbone`` means all of it. Returns how many.

    Raises:
        UserError: a pattern that matches nothing.
    """
    names = dict(task.named_parameters())
    for pattern in patterns:
        glob = "vit.*" if pattern == "backbone" else pattern
        matching = [name for name in names if fnmatch(name, glob) or name.startswith(f"{glob}.")]
        if not matching:
            modules = {name.rpartition(".")[0] for name in names}
            raise UserError(f"nothing to freeze is called {pattern!r}; {did_you_mean(pattern, modules)}")
        for name in matching:
            names[name].requires_grad_(False)
    return sum(not parameter.requires_grad for parameter in names.values())


def train_mode(task: Task) -> None:
    """Training mode, but without dropout or drop path in wholly frozen modules."""
    task.train()
    for module in task.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _can_fuse(parameters: Iterable[torch.Tensor]) -> bool:
    return all(type(p) is nn.Parameter and p.device.type in ("cpu", "cuda") for p in parameters)
