"""A ViT whose layers pass on fewer patch tokens, made of a plain one from outside.

Shapes: B batch, T tokens of which P come before the patches, N patches of the image, M ≤ N patch tokens that are left,
D width, H heads of width d.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from vitrail.errors import UserError
from vitrail.nn.attend import Positions
from vitrail.nn.block import Block
from vitrail.nn.windows import Windowing
from vitrail.ops.rope import Rotation
from vitrail.trainable import Embedder, EncoderModule
from vitrail.vit import Features, ViT


@dataclass(frozen=True)
class Patches:
    """The patch tokens between two halves of a block."""

    tokens: Tensor
    """B M D."""
    source: Tensor
    """B N int64: the token that each patch of the image has become part of."""
    size: Tensor | None = None
    """B M 1: how many patches a token weighs as in attention; None: one each."""


class Reduction(Protocol):
    """What a method does between attention and MLP of each layer."""

    def __call__(self, layer: int, patches: Patches, q: Tensor, k: Tensor) -> Patches:
        """As many patch tokens or fewer; all images keep equally many.

        Args:
            q, k: queries and keys of all tokens in this layer, B H T d.
        """


@dataclass(frozen=True)
class ReducedFeatures(Features):
    """Features of fewer tokens; ``patches`` and ``map`` still have a vector for each patch: that of its token.

    So a mean over the patches weighs a token by its size, and a feature map has its grid.
    """

    source: Tensor
    """B N int64: the token that each patch of the image has become part of."""

    @property
    def remaining(self) -> Tensor:
        """The patch tokens that are left, B M D."""
        return self.tokens[:, self.num_prefix :]

    @property
    def patches(self) -> Tensor:
        """B N D, row by row; patches of one token have the same vector."""
        return take(self.remaining, self.source)


class Reducing:
    """An ``Attend`` that runs a reduction between attention and MLP. One object serves one pass.

    Rotary positions of a token that stands for several patches are the mean of theirs.

    Args:
        tokens: B T D, those of the first layer: ``num_prefix`` that stay, then all patches.
    """

    def __init__(self, reduction: Reduction, tokens: Tensor, num_prefix: int) -> None:
        self.reduction, self.num_prefix = reduction, num_prefix
        patches = tokens[:, num_prefix:]
        batch, count = patches.shape[:2]  # len(patches) would fix the batch of a traced graph
        self.patches = Patches(patches, torch.arange(count, device=tokens.device).expand(batch, -1))
        self.is_reduced = False
        self.rotations: tuple[Rotation, Rotation] | None = None  # of patches; of the tokens that stand for several

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T' D, T' ≤ T."""
        q, k, v = block.attention.project(block.before_attention(x), self._rotation(positions))
        x = block.add_attention(x, block.attention.mix(q, k, v, self._proportional()))
        prefix, tokens = x[:, : self.num_prefix], x[:, self.num_prefix :]
        reduced = self.reduction(layer, Patches(tokens, self.patches.source, self.patches.size), q, k)
        if reduced.tokens is not tokens:
            x = torch.cat((prefix, reduced.tokens), dim=1)
            self.is_reduced, self.rotations = True, None
        self.patches = reduced
        return block.feed_forward(x)

    def _rotation(self, positions: Positions) -> Positions:
        """Those of the tokens that are left."""
        if not (self.is_reduced and isinstance(positions, tuple)):
            return positions
        if self.rotations is None or self.rotations[0] is not positions:
            self.rotations = positions, mean_rotation(positions, self.patches)
        return self.rotations[1]

    def _proportional(self) -> Tensor | None:
        """The bias log(size) of attention, B 1 1 T: a token counts as its patches would (Bolya et al., eq. 1)."""
        if self.patches.size is None:
            return None
        return nn.functional.pad(self.patches.size.log().mT[:, None], (self.num_prefix, 0))


class ReducedViT(ViT):
    """A ViT with the parts and weights of ``vit`` under the same names, whose layers run ``reduction``."""

    def __init__(self, vit: ViT, reduction: Reduction) -> None:
        nn.Module.__init__(self)
        self.config, self.reduction, self.training = vit.config, reduction, vit.training
        self.class_token, self.distillation_token, self.registers = vit._prefix_tokens()
        self.rotary = vit.rotary
        for name, part in vit.named_children():
            if name != "rotary":
                self.add_module(name, part)

    @property
    def fixed_token_count(self) -> bool:
        """False: it falls from layer to layer."""
        return False

    def forward(self, images: Tensor, patches: Tensor | None = None) -> ReducedFeatures:
        """B C H W → features of the tokens that are left."""
        (last,) = deque(self._reduced_layers(images, patches), maxlen=1)
        return self._normed(last)

    def intermediates(
        self, images: Tensor, layers: Iterable[int] | None = None, *, norm: bool = False
    ) -> list[Features]:
        """As :meth:`ViT.intermediates`, each with the tokens that its layer leaves."""
        wanted = self._layers(layers)
        outputs = enumerate(islice(self._reduced_layers(images), max(wanted) + 1))
        found = {layer: self._normed(each) if norm else each for layer, each in outputs if layer in wanted}
        return [found[layer] for layer in wanted]

    def attentions(
        self,
        images: Tensor,
        layers: Iterable[int] | None = None,
        padding: Tensor | None = None,
        window: Windowing | None = None,
    ) -> NoReturn:
        """Raises UserError: the matrices are over other tokens in each layer."""
        raise UserError("attention maps need all tokens; take the plain model, without merging")

    def tokenise(self, images: Tensor, patches: Tensor | None = None) -> NoReturn:
        """Raises UserError: layers with an ``attend`` of the caller's would run without the reduction."""
        raise UserError(
            "queries among the tokens, padding and attention in windows need all tokens; "
            "take the plain model, without merging"
        )

    def _reduced_layers(self, images: Tensor, embedded: Tensor | None = None) -> Iterator[ReducedFeatures]:
        """After each block."""
        tokens, grid, positions = super().tokenise(images, embedded)
        attend = Reducing(self.reduction, tokens, self.num_prefix)
        for x in self.layers(tokens, positions, attend):
            plain = self._features(x, grid)
            yield ReducedFeatures(**vars(plain), source=attend.patches.source)

    def _normed(self, features: ReducedFeatures) -> ReducedFeatures:
        return dataclasses.replace(features, tokens=self.norm(features.tokens))


def reduced(task: Embedder, reduction: Reduction) -> Embedder:
    """A copy of the task whose encoder reduces its tokens; both share their weights.

    Raises:
        UserError: see :func:`only_encoder`, or positions that cannot follow tokens which stand for several patches.
    """
    path, vit = only_encoder(task)
    if vit.config.needs_grid:
        raise UserError("relative positions belong to pairs of patches, and merged tokens have none; use method=prune")
    shared = {id(tensor): tensor for tensor in (*task.parameters(), *task.buffers())}
    task = copy.deepcopy(task, shared)
    _, vit = only_encoder(task)
    task.set_submodule(path, ReducedViT(vit, reduction))
    return task


def only_encoder(task: EncoderModule) -> tuple[str, ViT]:
    """The one encoder of a task and its module path.

    Raises:
        UserError: the task has several encoders or none of images, or the encoder's tokens are reduced already.
    """
    encoders = list(task.encoders().items())
    path, vit = encoders[0]
    if len(encoders) > 1 or not isinstance(vit, ViT):
        raise UserError(f"{task.name} has not one encoder that all its outputs come from; compress a task that has")
    if not vit.fixed_token_count:
        raise UserError("this model's tokens are reduced already; start from the plain one")
    return path, vit


def take(tokens: Tensor, where: Tensor) -> Tensor:
    """Tokens B M D at the places B K → B K D."""
    return tokens[torch.arange(tokens.shape[0], device=tokens.device)[:, None], where]  # entire rows; gather is slower


def places(kept: Tensor, moved: Tensor, into: Tensor) -> Tensor:
    """Where each token of B M has gone: those at ``kept`` (B K) to 0 … K − 1, those at ``moved`` to ``into``."""
    where = kept.new_zeros(kept.shape[0], kept.shape[1] + moved.shape[1])
    order = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    return where.scatter(1, kept, order).scatter(1, moved, into)


def mean_rotation(rotation: Rotation, patches: Patches) -> Rotation:
    """(cos, sin) of N patches, (N, d/2) or (H, N, d/2) → of the M tokens of each image, (B, 1 or H, M, d/2)."""
    member = patches.source[:, None] == torch.arange(patches.tokens.shape[1], device=patches.source.device)[:, None]
    share = member / member.sum(dim=-1, keepdim=True)  # B M N
    cos, sin = (share[:, None] @ each for each in rotation)
    return cos, sin
