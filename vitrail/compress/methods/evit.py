"""Token pruning (Liang et al. 2022, "Not All Patches Are What You Need", EViT): unattended patches become one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vitrail.compress import Levels
from vitrail.compress.reduced import Patches, only_encoder, places, reduced, take
from vitrail.config import config
from vitrail.errors import UserError
from vitrail.trainable import Embedder
from vitrail.vit import ViT

STRENGTH = "keep"


@config
class Options:
    """How many, and where.

    Args:
        keep: share of the patch tokens that go on, each time.
        layers: after the attention of these, 0 the first; default: after a quarter, half and three quarters of the
            depth, as in the paper.
    """

    keep: Annotated[float, Field(gt=0, le=1)] = 0.7
    layers: Annotated[tuple[int, ...], Field(min_length=1)] | None = None


def levels(vit: ViT) -> Levels:
    """The paper's 0.9 to 0.5, and one stronger."""
    return (0.9, 0.7, 0.5, 0.3)


def apply(task: Embedder, options: Options, found: None = None) -> Embedder:
    """A copy that prunes; class token, distillation token and registers are kept.

    Raises:
        UserError: no such layer, or see :func:`reduced`.
    """
    _, vit = only_encoder(task)
    config = vit.config
    layers = options.layers or tuple(config.depth * quarter // 4 for quarter in (1, 2, 3))
    if bad := [layer for layer in layers if not 0 <= layer < config.depth]:
        raise UserError(f"there is no layer {bad[0]}; this model has layers 0 to {config.depth - 1}")
    return reduced(task, Pruning(options.keep, frozenset(layers), vit.num_prefix, config.class_token))


@dataclass(frozen=True)
class Pruning:
    """The reduction: of M patch tokens ⌈keep · M⌉ go on, and one more that is the sum of the others by attention."""

    keep: float
    layers: frozenset[int]
    num_prefix: int
    class_token: bool

    def __call__(self, layer: int, patches: Patches, q: Tensor, k: Tensor) -> Patches:
        count = math.ceil(self.keep * patches.tokens.shape[1])
        if layer not in self.layers or count == patches.tokens.shape[1]:
            return patches
        attention = self._received(q, k)
        order = attention.argsort(dim=-1, descending=True)
        kept, moved = order[:, :count].sort(dim=-1).values, order[:, count:]
        rest = attention.gather(1, moved)[:, None] @ take(patches.tokens, moved)  # their equation 3
        tokens = torch.cat((take(patches.tokens, kept), rest), dim=1)
        where = places(kept, moved, torch.full_like(moved, count))
        return Patches(tokens, where.gather(1, patches.source))

    def _received(self, q: Tensor, k: Tensor) -> Tensor:
        """B M: the attention that the class token, or without one all patches on average, pays to each patch."""
        asking = q[:, :, :1] if self.class_token else q[:, :, self.num_prefix :]
        weights = (asking @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        return weights.mean(dim=(1, 2))[:, self.num_prefix :]
