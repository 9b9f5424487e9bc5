"""Multi-head self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.ops.attention import attention
from vitrail.ops.rope import Rotation, rotate


class Attention(nn.Module):
    """softmax(Q Kᵀ / √d) V over all tokens, in ``heads`` heads of width ``head_dim`` (Vaswani et al. 2017).

    Args:
        head_dim: d; ``heads · head_dim`` need not equal ``dim``.
        qk_norm: LayerNorm over d on queries and keys (Dehghani et al. 2023, ViT-22B).
        dropout: on the attention weights.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int,
        *,
        qkv_bias: bool = True,
        out_bias: bool = True,
        qk_norm: bool = False,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=qkv_bias)  # rows: all queries, keys, values
        self.q_norm = nn.LayerNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.out = nn.Linear(heads * head_dim, dim, bias=out_bias)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """B T D → B T D."""
        q, k, v = self.project(x, rotation)
        mixed = attention(q, k, v, dropout=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """The attention matrix softmax(Q Kᵀ / √d): B T D → B H T T, rows sum to 1."""
        q, k, _ = self.project(x, rotation)
        return (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(dim=-1)

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each B H T d, normalised and rotated where the model asks for it."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            num_prefix = x.shape[1] - len(rotation[0])
            q, k = rotate(q, rotation, num_prefix), rotate(k, rotation, num_prefix)
        return q, k, v

    def qkv_kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views on the query, key and value kernels, each (H·d, D)."""
        q, k, v = torch.unbind(self.qkv.weight.unflatten(0, (3, -1)))
        return q, k, v
