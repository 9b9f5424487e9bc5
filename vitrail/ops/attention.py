"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1). Shapes: B H N d, H heads of width d."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / √d) v."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
