"""Linear layers by oneDNN on weights that are packed once, for inference on a CPU.

PyTorch's own linear layer calls another library in fp32, at a lower rate on many CPUs, and packs bf16 weights again at
each call. GELU is computed in the same pass as the layer before it. The operators are those that PyTorch's compiler
uses, without its minute of compiling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.nn.mlp import Mlp

FUSED = {"gelu": "none", "gelu_tanh": "tanh"}  # GELU's form, as oneDNN's operator calls it


class PackedLinear(nn.Module):
    """``F.linear`` on packed weights, optionally with GELU; (..., in) → (..., out) in the dtype of the weights.

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


def pack(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace all linear layers in ``module``, in place."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child, dtype))
        elif type(child) is Mlp and child.kind in FUSED:
            gelu = FUSED[child.kind]
            setattr(module, name, nn.Sequential(PackedLinear(child.fc1, dtype, gelu), PackedLinear(child.fc2, dtype)))
        else:
            pack(child, dtype)


def has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Can linear layers there be packed?"""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
