"""PyTorch prepared for inference: on a CPU, linear layers by oneDNN on weights that are packed once.

PyTorch's own linear layer calls another library in fp32, at a lower rate on many CPUs, and packs bf16 weights anew at
each call. GELU is computed in the same pass as the layer before it. The operators are those that PyTorch's compiler
uses, without its minute of compiling.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import Engine
from vitrail.engines.eager import Autocast
from vitrail.nn.mlp import Mlp
from vitrail.tasks import Task

PRECISIONS = ("fp32", "bf16")
FUSED = {"gelu": "none", "gelu_tanh": "tanh"}  # GELU's form, as oneDNN's operator calls it


class PackedLinear(nn.Module):
    """``F.linear`` on packed weights, with GELU on top where asked; (..., in) → (..., out) in the dtype of the weights.

    Args:
        gelu: ``none`` for the exact one, ``tanh``, or None to leave it out.
    """

    packed: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, gelu: str | None = None) -> None:
        super().__init__()
        self.dtype = dtype
        self.attributes: tuple[str, list[float], str] = ("none", [], "") if gelu is None else ("gelu", [], gelu)
        weight = linear.weight.detach().to(dtype).contiguous()
        self.register_buffer("packed", torch.ops.mkldnn._reorder_linear_weight(weight))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.packed, self.bias, *self.attributes)
        return out


def prepare(task: Task, precision: str) -> Engine:
    """A prepared copy of ``task``; where it is on an accelerator, or oneDNN is not there, the task itself.

    In bf16 the linear layers and attention compute in it; the residual stream and the head stay in fp32.
    """
    original: Any = task
    dtype = AUTOCAST_DTYPES.get(precision, torch.float32)
    if not has_onednn(next(task.parameters()).device, dtype):
        return original if precision == "fp32" else Autocast(original, dtype)
    twin: Any = copy.deepcopy(task).eval().requires_grad_(False)
    twin.backbone.blocks = _packed(twin.backbone.blocks, dtype)
    return _packed(twin, torch.float32)


def _packed(module: nn.Module, dtype: torch.dtype) -> Any:
    """``module`` with all its linear layers packed, those of a task in place."""
    if type(module) is nn.Linear:
        return PackedLinear(module, dtype)
    if type(module) is Mlp and module.kind in FUSED:
        return nn.Sequential(PackedLinear(module.fc1, dtype, FUSED[module.kind]), PackedLinear(module.fc2, dtype))
    for name, child in module.named_children():
        setattr(module, name, _packed(child, dtype))
    return module


def has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Can linear layers there be packed?"""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
