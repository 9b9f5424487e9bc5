"""Multi-head self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from vitrail.nn.continuous_bias import ContinuousBias
from vitrail.nn.cosine import UnitKeys, UnitQueries
from vitrail.nn.init import Initialised, separate_xavier_, zeros_if_any_
from vitrail.nn.located import Positions
from vitrail.nn.norms import NormKind, build_norm
from vitrail.nn.relative_bias import RelativeBias
from vitrail.ops.attention import attention
from vitrail.ops.grid import Pair
from vitrail.ops.relative import Offsets
from vitrail.ops.rope import rotate


class Attention(Initialised):
    """softmax(Q Kᵀ / √d) V over all tokens, in ``heads`` heads of width ``head_dim`` (Vaswani et al. 2017).

    Args:
        head_dim: d; ``heads · head_dim`` need not equal ``dim``.
        factor: of the scores, besides 1/√d.
        key_bias: with ``qkv_bias``, give keys one too; it never changes a softmax, and BEiT's have none.
        qk_norm: a norm over d on queries and keys (Dehghani et al. 2023, ViT-22B).
        cosine: scores are the cosine of queries and keys, times a learned scale (Liu et al. 2022, Swin V2).
        inner_norm: LayerNorm over all heads before the output projection (Fang et al. 2023, EVA-02).
        dropout: on the attention weights.
        relative: a bias of the weights by the offset between two tokens.

    ``positions`` of the methods: what attention itself needs of where tokens are, a rotation or offsets.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int,
        *,
        factor: float = 1.0,
        qkv_bias: bool = True,
        key_bias: bool = True,
        out_bias: bool = True,
        qk_norm: bool = False,
        cosine: bool = False,
        inner_norm: bool = False,
        norm: NormKind = "layer",
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        relative: RelativeBias | ContinuousBias | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout, self.factor = heads, head_dim, dropout, factor
        width = heads * head_dim
        self.qkv = nn.Linear(dim, 3 * width, bias=qkv_bias and key_bias)  # rows: all queries, keys, values
        self.qv_bias = nn.Parameter(torch.empty(2 * width)) if qkv_bias and not key_bias else None
        self.relative = relative
        self.q_norm: nn.Module = build_norm(norm, head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = build_norm(norm, head_dim, norm_eps) if qk_norm else nn.Identity()
        if cosine:
            self.q_norm, self.k_norm = UnitQueries(heads, head_dim), UnitKeys()
        self.inner_norm = nn.LayerNorm(width, norm_eps) if inner_norm else nn.Identity()
        self.out = nn.Linear(width, dim, bias=out_bias)

    def finish_reset(self) -> None:
        """Xavier-uniform on the query, key and value kernels apart, as if they were three layers."""
        separate_xavier_(self.qkv.weight, 3)
        zeros_if_any_(self.qv_bias)

    def forward(self, x: Tensor, positions: Positions = None, mask: Tensor | None = None) -> Tensor:
        """B T D → B T D.

        Args:
            mask: bool, true where a token sees another one, broadcastable to B H T T; not with relative positions.
        """
        q, k, v = self.project(x, positions)
        return self.mix(q, k, v, self._bias(positions, q, mask))

    @property
    def needs_grid(self) -> bool:
        """Whether it takes all tokens of a grid alone, without masks and windows of others."""
        return self.relative is not None

    def resize(self, grid: Pair) -> None:
        """Move what belongs to a grid to another one, for good."""
        if self.relative is not None:
            self.relative.resize(grid)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """softmax(Q Kᵀ / √d + bias) V through the output projection: B H T d → B T D."""
        mixed = attention(q, k, v, mask=bias, dropout=self.dropout if self.training else 0.0)
        return self.join(mixed)

    def join(self, mixed: Tensor) -> Tensor:
        """The heads through the output projection: B H T d → B T D."""
        return self.out(self.inner_norm(mixed.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor, positions: Positions = None, mask: Tensor | None = None) -> Tensor:
        """The attention matrix softmax(Q Kᵀ / √d): B T D → B H T T, rows sum to 1; mask as of :meth:`forward`."""
        return self.openly(x, positions, mask)[1]

    def openly(self, x: Tensor, positions: Positions = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` returns, by a product with the attention matrix, and what :meth:`weights` does."""
        q, k, v = self.project(x, positions)
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        bias = self._bias(positions, q, mask)
        weights = (scores if bias is None else scores + bias).softmax(dim=-1)
        return self.join(weights @ v), weights

    def project(self, x: Tensor, positions: Positions = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each B H T d, normalised and rotated where the model uses it."""
        q, k, v = (part.transpose(1, 2) for part in self.separate(x))
        q, k = self.q_norm(q), self.k_norm(k)
        if self.factor != 1:
            q = q * self.factor
        if isinstance(positions, tuple):
            num_prefix = x.shape[1] - positions[0].shape[-2]
            q, k = rotate(q, positions, num_prefix), rotate(k, positions, num_prefix)
        return q, k, v

    def separate(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values as the linear layer gives them, each B T H d."""
        qkv = self.qkv(x)
        if self.qv_bias is not None:
            q_bias, v_bias = self.qv_bias.chunk(2)
            qkv = qkv + torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
        return qkv.unflatten(-1, (3, self.heads, self.head_dim)).unbind(2)

    def qkv_kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views on the query, key and value kernels, each (H·d, D)."""
        q, k, v = torch.unbind(self.qkv.weight.unflatten(0, (3, -1)))
        return q, k, v

    def _bias(self, positions: Positions, like: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """What is added to the scores, broadcastable to B H T T; None: nothing."""
        if mask is not None:
            assert self.relative is None, "a relative bias takes the place of the mask"
            return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -torch.inf)
        if self.relative is None:
            return None
        assert isinstance(positions, Offsets), "a relative bias needs the offsets of the tokens"
        return self.relative(positions).to(like.dtype)


class AttentionPattern(Protocol):
    """Which tokens of a block attend to which."""

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        """What the block's attention module makes of its input: B T D → B T D."""

    def mask(self, x: Tensor) -> Tensor | None:
        """The same as a mask of that input: bool, broadcastable to B H T T, true where a token attends to another one;
        None: all attend to all."""


@dataclass(frozen=True)
class Masked:
    """All tokens attend to those that a mask allows.

    Attributes:
        allowed: as of :meth:`AttentionPattern.mask`.
    """

    allowed: Tensor | None = None

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        y: Tensor = module(x, positions, self.allowed)
        return y

    def mask(self, x: Tensor) -> Tensor | None:
        return self.allowed
