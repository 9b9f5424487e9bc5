"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), by the kernel that is fastest where it runs.

Shapes: B H N d, H heads of width d.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_TOKENS = 1100  # KeptWeights is faster beyond, too (1.25 × at 2049), but takes B H N² of memory a layer


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / √d) v.

    PyTorch's fused kernel, except for unmasked training on a CPU in bfloat16: its backward pass is slow there, and
    :class:`KeptWeights` is 7 times faster at 65 tokens, 2.5 times at 197 and 1.4 times at 1025, forward and backward.
    """
    if mask is None and not dropout and _trains_faster_with_kept_weights(q, k, v):
        q, k, v = (x.contiguous() for x in (q, k, v))
        out: Tensor = KeptWeights.apply(q, k, v)[0]
        return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def from_queries(weights: Tensor, class_token: bool, num_prefix: int) -> Tensor:
    """The attention (..., T, T) that the patches receive, (..., N): the class token's row or the patches' mean."""
    rows = weights[..., 0, :] if class_token else weights[..., num_prefix:, :].mean(dim=-2)
    return rows[..., num_prefix:]


class KeptWeights(torch.autograd.Function):
    """Attention by plain matrix products that keeps its weights P = softmax(q kᵀ / √d) for the backward pass.

    Contiguous q, k, v (B H N d) → softmax(q kᵀ / √d) v and P. The gradients are those of the formula: dv = Pᵀ g and,
    with dS = P ∘ (g vᵀ − rowsum(P ∘ g vᵀ)), dq = dS k / √d and dk = dSᵀ q / √d. Differentiable once.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = _scaled_product(q, k.transpose(-2, -1), q.shape[-1]).softmax(dim=-1)
        return torch.matmul(weights, v), weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if grad is None:
            return None, None, None
        q, k, v, weights = ctx.saved_tensors
        grad = grad.contiguous()
        dv = torch.matmul(weights.transpose(-2, -1), grad)
        dweights = torch.matmul(grad, v.transpose(-2, -1))
        dscores = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
        dq, dk = (_scaled_product(a, b, q.shape[-1]) for a, b in ((dscores, k), (dscores.transpose(-2, -1), q)))
        return dq, dk, dv


def _scaled_product(a: Tensor, b: Tensor, head_dim: int) -> Tensor:
    """a b / √d of batched matrices, scaled before it is rounded."""
    out = torch.baddbmm(a.new_empty(()), a.flatten(0, -3), b.flatten(0, -3), beta=0, alpha=head_dim**-0.5)
    return out.unflatten(0, a.shape[:-2])


def _trains_faster_with_kept_weights(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and max(q.shape[-2], k.shape[-2]) <= MAX_TOKENS
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in (q, k, v))
        and not torch.compiler.is_compiling()
    )
