"""From tokens to one vector per image. Each pool maps (prefix B P D, patches B N D) → B D, or B 2D where it says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.features import Features
from vitrail.nn.init import Initialised, separate_xavier_
from vitrail.nn.mlp import Mlp, MlpKind
from vitrail.ops.attention import attention

PoolKind = Literal["cls", "mean", "max", "attention", "cls_mean", "cls4_mean", "cls_distillation", "prefix"]


@config
class AttentionPoolConfig:
    """What of an attention pool differs from the blocks of the encoder before it.

    Args:
        heads: default: the blocks'.
        mlp_dim: default: the blocks'.
        prefix: the query attends to the tokens before the patches, too (Bolya et al. 2025, Perception Encoder).
    """

    heads: Annotated[int, Field(gt=0, le=256)] | None = None
    mlp_dim: Annotated[int, Field(gt=0, le=131072)] | None = None
    prefix: bool = False


class ClassTokenPool(nn.Module):
    """The class token."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return prefix[:, 0]


class MeanPool(nn.Module):
    """The mean of the patch tokens."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.mean(dim=1)


class ClassTokenMeanPool(nn.Module):
    """The class token and the mean of the patch tokens, side by side: B 2D (DINOv2's linear heads)."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return torch.cat((prefix[:, 0], patches.mean(dim=1)), dim=-1)


class ClassTokensMeanPool(nn.Module):
    """The class tokens of the last four layers and the mean of the patch tokens of the last one, side by side: B 5D
    (DINOv2's linear heads on four layers)."""

    num_layers = 4

    def from_layers(self, layers: Sequence[Features]) -> Tensor:
        """The features of so many layers, each after the final norm → B 5D."""
        return torch.cat([*(each.prefix[:, 0] for each in layers), layers[-1].patches.mean(dim=1)], dim=-1)


class DistillationPool(nn.Module):
    """Class and distillation token side by side: B 2D."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return prefix[:, :2].flatten(1)


class PrefixPool(nn.Module):
    """Some of the tokens before the patches side by side: B k·D (RADIO's summary)."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return torch.cat([prefix[:, token] for token in self.tokens], dim=-1)


class MaxPool(nn.Module):
    """The maximum over patch tokens, channel by channel."""

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.amax(dim=1)


class AttentionPool(Initialised):
    """A learned query attends to the patch tokens; a residual MLP follows (Zhai et al. 2022, "MAP head").

    Args:
        prefix: it attends to the tokens before them, too.
    """

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, mlp: MlpKind, norm_eps: float, *, prefix: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.prefix = heads, prefix
        self.probe = nn.Parameter(torch.empty(1, 1, dim))
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.mlp = Mlp(dim, mlp_dim, mlp)

    def reset_parameters(self) -> None:
        """The query as a linear layer's row."""
        nn.init.xavier_uniform_(self.probe[0])

    def finish_reset(self) -> None:
        """Xavier-uniform on the key and value kernels apart, as if they were two layers."""
        separate_xavier_(self.kv.weight, 2)

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        if self.prefix:
            patches = torch.cat((prefix, patches), dim=1)
        q = self.q(self.probe).expand(patches.shape[0], -1, -1).unflatten(-1, (1, self.heads, -1))
        kv = self.kv(patches).unflatten(-1, (2, self.heads, -1))
        q, k, v = (t.transpose(1, 2) for t in (q[:, :, 0], *kv.unbind(2)))
        x = self.out(attention(q, k, v).transpose(1, 2).flatten(2))
        return (x + self.mlp(self.norm(x)))[:, 0]


def build_pool(
    kind: PoolKind,
    dim: int,
    heads: int,
    mlp_dim: int,
    mlp: MlpKind,
    norm_eps: float,
    own: AttentionPoolConfig | None = None,
    tokens: tuple[int, ...] = (),
) -> nn.Module:
    """The pool of that name; only attention pooling has parameters.

    Args:
        own: what of attention pooling is not the blocks'.
        tokens: those of prefix pooling, from 0.
    """
    if kind == "attention":
        own = own or AttentionPoolConfig()
        return AttentionPool(dim, own.heads or heads, own.mlp_dim or mlp_dim, mlp, norm_eps, prefix=own.prefix)
    if kind == "prefix":
        return PrefixPool(tokens)
    pools: dict[str, type[nn.Module]] = {
        "cls": ClassTokenPool,
        "mean": MeanPool,
        "max": MaxPool,
        "cls_mean": ClassTokenMeanPool,
        "cls4_mean": ClassTokensMeanPool,
        "cls_distillation": DistillationPool,
    }
    return pools[kind]()


def pooled_dim(kind: PoolKind, dim: int, num_tokens: int = 1) -> int:
    """Width of the pooled vector.

    Args:
        num_tokens: of prefix pooling.
    """
    if kind == "prefix":
        return num_tokens * dim
    if kind == "cls4_mean":
        return (ClassTokensMeanPool.num_layers + 1) * dim
    return 2 * dim if kind in ("cls_mean", "cls_distillation") else dim
