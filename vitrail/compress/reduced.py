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
from typing import NoReturn, Protocol, cast

import torch
from torch import Tensor, nn

from vitrail.errors import UserError
from vitrail.nn.block import Block
from vitrail.ops.rope import Rotation
from vitrail.tasks import Task
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
    """What a method does in each layer."""

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


class ReducedViT(ViT):
    """Has the parts and weights of ``vit`` under the same names, and runs ``reduction`` between attention and MLP.

    Rotary positions of a token that stands for several patches are the mean of theirs.
    """

    def __init__(self, vit: ViT, reduction: Reduction) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(vit))
        self.reduction = reduction

    def forward(self, images: Tensor, patches: Tensor | None = None) -> ReducedFeatures:
        """B C H W → features of the tokens that are left."""
        (last,) = deque(self._layers_of(images, patches), maxlen=1)
        return self._normed(last)

    def intermediates(
        self, images: Tensor, layers: Iterable[int] | None = None, *, norm: bool = False
    ) -> list[Features]:
        """As :meth:`ViT.intermediates`, each with the tokens that its layer leaves."""
        wanted = self._layers(layers)
        layers_of = enumerate(islice(self._layers_of(images), max(wanted) + 1))
        found = {layer: self._normed(each) if norm else each for layer, each in layers_of if layer in wanted}
        return [found[layer] for layer in wanted]

    def attentions(self, images: Tensor, layers: Iterable[int] | None = None) -> NoReturn:
        """Raises UserError: the matrices are over other tokens in each layer."""
        raise UserError("attention maps need all tokens; take the plain model, without merging")

    def tokenise(self, images: Tensor, patches: Tensor | None = None) -> NoReturn:
        """Raises UserError: whoever runs the blocks one by one would run them without the reduction."""
        raise UserError("padding and attention in windows need all tokens; take the plain model, without merging")

    def _layers_of(self, images: Tensor, embedded: Tensor | None = None) -> Iterator[ReducedFeatures]:
        """After each block."""
        x, grid, whole = super().tokenise(images, embedded)
        count = x.shape[1] - self.num_prefix
        patches = Patches(x[:, self.num_prefix :], torch.arange(count, device=x.device).expand(x.shape[0], -1))
        positions = whole
        for layer, each in enumerate(self.blocks):
            block = cast(Block, each)
            q, k, v = block.attention.project(block.before_attention(x), positions)
            x = block.add_attention(x, block.attention.mix(q, k, v, self._proportional(patches)))
            prefix, tokens = x[:, : self.num_prefix], x[:, self.num_prefix :]
            reduced = self.reduction(layer, Patches(tokens, patches.source, patches.size), q, k)
            if reduced.tokens is not tokens:
                x = torch.cat((prefix, reduced.tokens), dim=1)
                if isinstance(whole, tuple):
                    positions = mean_rotation(whole, reduced)
            patches = reduced
            x = block.feed_forward(x)
            yield ReducedFeatures(
                x, grid, self.config.class_token, self.num_prefix, self.config.registers, patches.source
            )

    def _proportional(self, patches: Patches) -> Tensor | None:
        """The bias log(size) of attention, B 1 1 T: a token counts as its patches would (Bolya et al., eq. 1)."""
        if patches.size is None:
            return None
        return nn.functional.pad(patches.size.log().mT[:, None], (self.num_prefix, 0))

    def _normed(self, features: ReducedFeatures) -> ReducedFeatures:
        return dataclasses.replace(features, tokens=self.norm(features.tokens))


def reduced(task: Task, reduction: Reduction) -> Task:
    """A copy of the task whose backbone reduces its tokens; both share their weights.

    Raises:
        UserError: see :func:`require_plain`, or positions that cannot follow tokens which stand for several patches.
    """
    require_plain(task)
    if task.vit.config.positions == "relative":
        raise UserError("relative positions belong to pairs of patches, and merged tokens have none; use method=prune")
    shared = {id(tensor): tensor for tensor in (*task.parameters(), *task.buffers())}
    task = copy.deepcopy(task, shared)
    task.vit = ReducedViT(task.vit, reduction)
    return task


def require_plain(task: Task) -> None:
    """Can the task be compressed?

    Raises:
        UserError: it has not one backbone that all comes from, or its tokens are reduced already.
    """
    vit = getattr(task, "vit", None)
    if not isinstance(vit, ViT) or task.backbone is not vit or list(task.encoders().values()) != [vit]:
        raise UserError(f"{task.name} has not one backbone that all its outputs come from; compress a task that has")
    if isinstance(vit, ReducedViT):
        raise UserError("this model's tokens are reduced already; start from the plain one")


def take(tokens: Tensor, where: Tensor) -> Tensor:
    """Tokens B M D at the places B K → B K D."""
    return tokens[torch.arange(tokens.shape[0], device=tokens.device)[:, None], where]  # rows whole; gather is slower


def places(kept: Tensor, moved: Tensor, into: Tensor) -> Tensor:
    """Where each token of B M has gone: those at ``kept`` (B K) to 0 … K − 1, those at ``moved`` to ``into``."""
    where = kept.new_zeros(kept.shape[0], kept.shape[1] + moved.shape[1])
    order = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    return where.scatter(1, kept, order).scatter(1, moved, into)


def mean_rotation(rotation: Rotation, patches: Patches) -> Rotation:
    """(cos, sin) of N patches, (N, d/2) → of the M tokens of each image, (B, 1, M, d/2)."""
    member = patches.source[:, None] == torch.arange(patches.tokens.shape[1], device=patches.source.device)[:, None]
    share = member / member.sum(dim=-1, keepdim=True)  # B M N
    cos, sin = ((share @ each)[:, None] for each in rotation)
    return cos, sin
