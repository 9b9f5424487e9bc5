"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1). One kernel a file, each says what it suits.

Shapes: B H N d, H heads of width d.
"""

from __future__ import annotations

from torch import Tensor

from vitrail.ops.attention import fused, kept_weights


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / √d) v, by the kernel that is fastest for these tensors.

    Args:
        mask: bool, true where a query attends to a key, or float, added to the scores; broadcastable to B H N N.
        dropout: rate on the attention weights.
    """
    if mask is None and not dropout and kept_weights.suits(q, k, v):
        return kept_weights.attention(q, k, v)
    return fused.attention(q, k, v, mask=mask, dropout=dropout)


def from_queries(weights: Tensor, class_token: bool, num_prefix: int) -> Tensor:
    """The attention (..., T, T) that the patches receive, (..., N): the class token's row or the patches' mean."""
    rows = weights[..., 0, :] if class_token else weights[..., num_prefix:, :].mean(dim=-2)
    return rows[..., num_prefix:]
