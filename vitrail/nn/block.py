"""The transformer encoder block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.attention import Attention, AttentionPattern
from vitrail.nn.continuous_bias import ContinuousBias
from vitrail.nn.drop import DropPath
from vitrail.nn.init import Initialised
from vitrail.nn.layer import Layer
from vitrail.nn.located import Positions
from vitrail.nn.mlp import Mlp, MlpKind, SwiGLU
from vitrail.nn.modulation import Modulation
from vitrail.nn.normed_mlp import NormedMlp, NormedSwiGLU
from vitrail.nn.norms import NormKind, build_norm
from vitrail.nn.relative_bias import RelativeBias

Rate = Annotated[float, Field(ge=0, lt=1)]


@config
class BlockConfig:
    """What every block has in common.

    Args:
        order: ``pre`` normalises the input of each branch (x + f(N(x)), the ViT paper's order); ``post`` the sum
            (N(x + f(x)), Vaswani et al. 2017); ``branch`` its output (x + N(f(x)), Liu et al. 2022, Swin V2).
        head_dim: width of a head; default dim / heads.
        scale: attention scores are divided by the root of the width of a ``head`` (Vaswani et al. 2017), or of the
            whole ``token`` (early ViTs in PyTorch).
        norm: of the branches, of queries and keys, and before and after the blocks: LayerNorm, or the root mean square
            alone (``rms``).
        norm2_eps: of the norm of the MLP's branch, where it is another one than ``norm_eps``.
        norm_affine: whether norms of branches and after the blocks have factors and biases of their own, which norms
            that follow a condition do not need (Peebles & Xie 2023, DiT).
        key_bias: with ``qkv_bias``, whether keys have one too (BEiT's have none).
        cosine: scores of attention are the cosine of queries and keys, times a learned scale of each head (Liu et al.
            2022, Swin V2).
        attention_norm: LayerNorm before the output projection of attention (Fang et al. 2023, EVA-02).
        mlp_norm: LayerNorm between the two layers of the MLP (the same).
        layer_scale: initial value of a learned factor per channel on each branch (Touvron et al. 2021), or None.
        dropout: after the attention output and both MLP layers (and after adding positions, in ViT).
        drop_path: stochastic depth rate of the last block; it grows linearly from 0 at the first, unless
            ``drop_path_uniform``: all blocks have the same (DeiT III).
    """

    order: Literal["pre", "post", "branch"] = "pre"
    mlp: MlpKind = "gelu"
    head_dim: Annotated[int, Field(gt=0, le=1024)] | None = None
    scale: Literal["head", "token"] = "head"
    norm: NormKind = "layer"
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    norm2_eps: Annotated[float, Field(gt=0)] | None = None
    norm_affine: bool = True
    qkv_bias: bool = True
    key_bias: bool = True
    out_bias: bool = True
    qk_norm: bool = False
    cosine: bool = False
    attention_norm: bool = False
    mlp_norm: bool = False
    layer_scale: float | None = None
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    drop_path: Rate = 0.0
    drop_path_uniform: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> BlockConfig:
        if self.cosine and self.qk_norm:
            raise ValueError("cosine attention normalises queries and keys itself; leave out qk_norm")
        return self


class LayerScale(Initialised):
    """x · γ, one learned factor per channel."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def reset_parameters(self) -> None:
        """The initial value."""
        nn.init.constant_(self.gamma, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(Layer):
    """Attention and MLP, each a residual branch.

    Args:
        drop_path: this block's own rate (the config holds the last block's).
        relative: this block's own bias by relative positions.
        attention: builds its attention, of the arguments of :class:`Attention`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        config: BlockConfig,
        drop_path: float = 0.0,
        relative: RelativeBias | ContinuousBias | None = None,
        attention: Callable[..., Attention] = Attention,
    ) -> None:
        super().__init__()
        self.order, head_dim = config.order, config.head_dim or dim // heads
        self.norm1 = build_norm(config.norm, dim, config.norm_eps, config.norm_affine)
        self.attention = attention(
            dim,
            heads,
            head_dim,
            factor=(head_dim / dim) ** 0.5 if config.scale == "token" else 1.0,
            qkv_bias=config.qkv_bias,
            key_bias=config.key_bias,
            out_bias=config.out_bias,
            qk_norm=config.qk_norm,
            cosine=config.cosine,
            inner_norm=config.attention_norm,
            norm=config.norm,
            norm_eps=config.norm_eps,
            dropout=config.attention_dropout,
            relative=relative,
        )
        self.norm2 = build_norm(config.norm, dim, config.norm2_eps or config.norm_eps, config.norm_affine)
        self.mlp: Mlp | SwiGLU
        if config.mlp == "swiglu" and config.mlp_norm:
            self.mlp = NormedSwiGLU(dim, mlp_dim, config.dropout, config.norm_eps)
        elif config.mlp == "swiglu":
            self.mlp = SwiGLU(dim, mlp_dim, config.dropout)
        elif config.mlp_norm:
            self.mlp = NormedMlp(dim, mlp_dim, config.mlp, config.dropout, config.norm_eps)
        else:
            self.mlp = Mlp(dim, mlp_dim, config.mlp, config.dropout)
        self.branch1 = _branch(dim, config, drop_path)
        self.branch2 = _branch(dim, config, drop_path)

    def forward(
        self,
        x: Tensor,
        positions: Positions = None,
        attention: AttentionPattern | None = None,
        *,
        modulation: tuple[Modulation, Modulation] | None = None,
    ) -> Tensor:
        """B T D → B T D.

        Args:
            attention: which tokens attend to which; None: all to all.
            modulation: what a condition does to the two branches; only with ``order="pre"``.
        """
        if modulation is not None:
            return self._modulated(x, positions, attention, *modulation)
        # Nothing has a name here: what is freed at once is memory, still in the cache, that the next layer writes to.
        return self.feed_forward(self.add_attention(x, self._attended(self.before_attention(x), positions, attention)))

    def before_attention(self, x: Tensor) -> Tensor:
        """What attention reads of the block's input, B T D."""
        return self.norm1(x) if self.order == "pre" else x

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The first half of the block: its input joined with what attention made of it, B T D."""
        if self.order == "branch":
            return x + self.branch1(self.norm1(attended))
        x = x + self.branch1(attended)
        return x if self.order == "pre" else self.norm1(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half: the MLP, B T D."""
        if self.order == "pre":
            return x + self.branch2(self.mlp(self.norm2(x)))
        if self.order == "branch":
            return x + self.branch2(self.norm2(self.mlp(x)))
        return self.norm2(x + self.branch2(self.mlp(x)))

    def _modulated(
        self, x: Tensor, positions: Positions, attention: AttentionPattern | None, first: Modulation, second: Modulation
    ) -> Tensor:
        """With adaptive layer norms (Peebles & Xie 2023, DiT)."""
        assert self.order == "pre", "a modulation is of the input of each branch"
        attended = self._attended(first.modulate(self.norm1(x)), positions, attention)
        x = torch.addcmul(x, first.gate, self.branch1(attended))
        return torch.addcmul(x, second.gate, self.branch2(self.mlp(second.modulate(self.norm2(x)))))

    def _attended(self, before: Tensor, positions: Positions, attention: AttentionPattern | None) -> Tensor:
        return self.attention(before, positions) if attention is None else attention(self.attention, before, positions)


def _branch(dim: int, config: BlockConfig, drop_path: float) -> nn.Sequential:
    """What a branch's output passes before it joins the residual stream."""
    parts = nn.Sequential()
    if config.dropout:
        parts.add_module("dropout", nn.Dropout(config.dropout))
    if config.layer_scale is not None:
        parts.add_module("scale", LayerScale(dim, config.layer_scale))
    if drop_path:
        parts.add_module("drop_path", DropPath(drop_path))
    return parts
