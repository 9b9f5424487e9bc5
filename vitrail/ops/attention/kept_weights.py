"""Matrix products that keep their weights: for unmasked training on a CPU in bfloat16.

There the backward pass of the fused kernel is slow: in both directions, this one is about 7 times faster at 65 tokens,
1.9 times at 197 and 1.6 times at 577, but slower at 1025 (one thread of a busy machine, in turns).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 16  # matrices of scores
MAX_TOKENS = 640


def suits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether these tensors are trained faster with kept weights than with the fused kernel."""
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and max(q.shape[-2], k.shape[-2]) <= MAX_TOKENS
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in (q, k, v))
        and not torch.compiler.is_compiling()
    )


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v, B H N d."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    out: Tensor = KeptWeights.apply(q, k, v)[0]
    return out


class KeptWeights(torch.autograd.Function):
    """Attention by plain matrix products that keeps its weights P = softmax(q kᵀ / √d) for the backward pass.

    Contiguous q, k, v (B H N d) → softmax(q kᵀ / √d) v and P. The gradients are those of the formula: dv = Pᵀ g and,
    with dS = P ∘ (g vᵀ − rowsum(P ∘ g vᵀ)), dq = dS k / √d and dk = dSᵀ q / √d. Differentiable once.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = _weights(q, k)
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


def _weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kᵀ / √d), B H N N. Scores are float32, as in the fused kernel: rounded, a large one changes its weight
    by a tenth. Few matrices at a time, so that they stay in the processor's cache."""
    queries, keys, scale = q.flatten(0, -3), k.flatten(0, -3), q.shape[-1] ** -0.5
    weights = q.new_empty(*queries.shape[:2], keys.shape[1])
    dtype = torch.promote_types(q.dtype, torch.float32)
    for start in range(0, queries.shape[0], CHUNK):
        part = slice(start, start + CHUNK)
        scores = torch.bmm(queries[part].to(dtype), keys[part].to(dtype).transpose(-2, -1)).mul_(scale)
        weights[part] = scores.softmax(dim=-1)
    return weights.unflatten(0, q.shape[:-2])


def _scaled_product(a: Tensor, b: Tensor, head_dim: int) -> Tensor:
    """a b / √d of batched matrices, scaled before it is rounded."""
    out = torch.baddbmm(a.new_empty(()), a.flatten(0, -3), b.flatten(0, -3), beta=0, alpha=head_dim**-0.5)
    return out.unflatten(0, a.shape[:-2])
