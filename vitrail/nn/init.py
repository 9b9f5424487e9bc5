"""Every initial value, in one function.

The plain-ViT baseline (Beyer et al. 2022) and what a PyTorch reproduction of it needed: Xavier-uniform on separate
query, key and value kernels, LeCun truncated-normal patch projection, zero output head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitrail.nn.attention import Attention
from vitrail.nn.block import LayerScale
from vitrail.nn.detr_decoder import BoxHead, logit
from vitrail.nn.head import Head
from vitrail.nn.mlp import Mlp
from vitrail.nn.object_queries import ObjectQueries
from vitrail.nn.pooling import AttentionPool
from vitrail.nn.positions import LearnedPositions
from vitrail.nn.relative_bias import RelativeBias
from vitrail.nn.resnet_stem import Bottleneck


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Set every parameter of ``model`` in place, from torch's global random state (on meta there is nothing to set)."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            _zero(module.bias)
        elif isinstance(module, nn.Conv2d):
            _lecun_normal(module.weight)
            _zero(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
            _zero(module.bias)
        elif isinstance(module, LayerScale):
            nn.init.constant_(module.gamma, module.initial)
        elif isinstance(module, LearnedPositions):
            nn.init.trunc_normal_(module.embedding, std=0.02)
        elif isinstance(module, RelativeBias):
            nn.init.trunc_normal_(module.table, std=0.02)
        elif isinstance(module, AttentionPool):
            nn.init.xavier_uniform_(module.probe[0])
        elif isinstance(module, ObjectQueries):
            nn.init.normal_(module.content)
            centres, sizes = torch.rand(len(module.content), 2), torch.full((len(module.content), 2), 0.25)
            module.box_logits.copy_(logit(torch.cat((centres, sizes), dim=1)))
    for name, parameter in model.named_parameters():
        if name.endswith(("class_token", "distillation_token")):
            nn.init.zeros_(parameter)
        elif name.endswith("registers"):
            nn.init.normal_(parameter, std=1e-6)
    for module in model.modules():
        if isinstance(module, Attention):
            for kernel in module.qkv_kernels():
                nn.init.xavier_uniform_(kernel)
            _zero(module.qv_bias)
        elif isinstance(module, Mlp):
            nn.init.normal_(module.fc1.bias, std=1e-6)
            nn.init.normal_(module.fc2.bias, std=1e-6)
        elif isinstance(module, BoxHead):
            nn.init.zeros_(module.output.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.norm3.weight)
        elif isinstance(module, Head):
            for output in (module.output, module.distillation):
                if isinstance(output, nn.Linear):
                    nn.init.zeros_(output.weight)
            if module.hidden is not None:
                _lecun_normal(module.hidden.weight)


class skip_init(TorchFunctionMode):
    """Layers built within it draw no random first values, where weights from a file are to come.

    On the meta device there is nothing to draw, and yet torch takes as long for it as for all else of a layer.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _lecun_normal(weight: Tensor) -> None:
    """Truncated normal of variance 1/fan_in; 0.8796 is the deviation of a unit normal cut at ±2."""
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
