"""PyTorch's fused kernel: the default, with masks and dropout, on every device and in every precision.

Its backward pass is slow on CPUs in bfloat16; see ``kept_weights``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / √d) v, B H N d. Memory does not grow with N² where a flash kernel is available."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
