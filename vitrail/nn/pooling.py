"""From tokens to one vector an image. Each pool maps (prefix B P D, patches B N D) → B D."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vitrail.nn.mlp import Mlp, MlpKind
from vitrail.ops.attention import attention

PoolKind = Literal["cls", "mean", "max", "attention"]


class ClassTokenPool(nn.Module):
    """The class token."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return prefix[:, 0]


class MeanPool(nn.Module):
    """The mean of the patch tokens."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.mean(dim=1)


class MaxPool(nn.Module):
    """The maximum over patch tokens, channel by channel."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.amax(dim=1)


class AttentionPool(nn.Module):
    """A learned query attends to the patch tokens; a residual MLP follows (Zhai et al. 2022, "MAP head")."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, mlp: MlpKind, norm_eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.empty(1, 1, dim))
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.mlp = Mlp(dim, mlp_dim, mlp)

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        q = self.q(self.probe).expand(len(patches), -1, -1).unflatten(-1, (1, self.heads, -1))
        kv = self.kv(patches).unflatten(-1, (2, self.heads, -1))
        q, k, v = (t.transpose(1, 2) for t in (q[:, :, 0], *kv.unbind(2)))
        x = self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        return (x + self.mlp(self.norm(x)))[:, 0]


def build_pool(kind: PoolKind, dim: int, heads: int, mlp_dim: int, mlp: MlpKind, norm_eps: float) -> nn.Module:
    """The pool of that name; only attention pooling has parameters."""
    if kind == "attention":
        return AttentionPool(dim, heads, mlp_dim, mlp, norm_eps)
    return {"cls": ClassTokenPool, "mean": MeanPool, "max": MaxPool}[kind]()
