"""Token merging (Bolya et al. 2023, "Token Merging: Your ViT But Faster"): similar patches are merged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from vitrail.compress import Levels
from vitrail.compress.reduced import Patches, only_encoder, reduced
from vitrail.config import config
from vitrail.errors import UserError
from vitrail.trainable import Embedder
from vitrail.vit import ViT

STRENGTH = "r"


@config
class Options:
    """How many.

    Args:
        r: patch tokens to merge in each layer; at most half of those there are.
        schedule: r in every layer (``constant``), or 2r in the first, falling to none in the last (``falling``), which
            is faster and costs more accuracy.
    """

    r: Annotated[int, Field(ge=0)] = 8
    schedule: Literal["constant", "falling"] = "constant"


def levels(vit: ViT) -> Levels:
    """Up to what every layer can merge."""
    most = max(1, num_patches(vit) // vit.config.depth)
    return tuple(sorted({round(most * share) for share in (0.25, 0.5, 0.75, 1)} - {0}))


def apply(task: Embedder, options: Options, found: None = None) -> Embedder:
    """A copy that merges; class token, distillation token and registers are kept.

    Raises:
        UserError: more than half of the patches are to be merged in one layer, or see :func:`reduced`.
    """
    _, vit = only_encoder(task)
    amounts = per_layer(options, vit.depth)
    count = num_patches(vit)
    if max(amounts) > count // 2:
        raise UserError(
            f"a layer can merge at most half of its {count} patches, not {max(amounts)}; "
            f"give r of at most {count // 2 // (max(amounts) // options.r)}"
        )
    return reduced(task, Merging(tuple(amounts), vit.num_prefix))


def num_patches(vit: ViT) -> int:
    """N at the native size."""
    rows, columns = vit.embed.grid(vit.config.image_size)
    return rows * columns


def per_layer(options: Options, depth: int) -> list[int]:
    """How many tokens each layer merges."""
    if options.schedule == "constant" or depth == 1:
        return [options.r] * depth
    return [int(2 * options.r * (1 - layer / (depth - 1))) for layer in range(depth)]


@dataclass(frozen=True)
class Merging:
    """The reduction: ``amounts`` a layer, fewer where fewer than twice as many patches are left."""

    amounts: Sequence[int]
    num_prefix: int

    def __call__(self, layer: int, patches: Patches, q: Tensor, k: Tensor) -> Patches:
        amount = min(self.amounts[layer], patches.tokens.shape[1] // 2)
        if not amount:
            return patches
        # the paper's sets are every other token of all, so the first patch follows the last token before it
        where = match(k[:, :, self.num_prefix :].mean(dim=1), amount, self.num_prefix % 2)
        size = torch.ones_like(patches.tokens[..., :1]) if patches.size is None else patches.size
        count = patches.tokens.shape[1] - amount
        member = (where[:, None] == torch.arange(count, device=where.device)[:, None]).to(size.dtype)  # B K M
        with _as_they_are(where.device):  # a product adds up faster than gather and scatter do
            total = member @ size
            tokens = member @ (patches.tokens * size) / total
        return Patches(tokens, where.gather(1, patches.source), total)


def _as_they_are(device: torch.device) -> AbstractContextManager[None]:
    """No product rounds the tokens: autocast would, to bf16."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def match(keys: Tensor, amount: int, first: int) -> Tensor:
    """Bipartite soft matching (their section 3): of set A the ``amount`` tokens most like one in B move into that.

    All by comparisons, as runtimes are slow at sorting and scattering.

    Args:
        keys: B M d, whose cosine is the similarity.
        first: where A begins, 0 or 1; it has every other token from there on, B the rest.

    Returns:
        Which token each becomes part of, B M int64: those that stay of A come first, in their order, then B's.
    """
    keys = normalize(keys, dim=-1)
    best, partner = (keys[:, first::2] @ keys[:, 1 - first :: 2].mT).max(dim=-1)
    order = torch.arange(best.shape[1], device=keys.device)
    tied = (best[:, None] == best[..., None]) & (order < order[:, None])
    moves = ((best[:, None] > best[..., None]) | tied).sum(dim=-1) < amount
    staying = best.shape[1] - amount
    of_a = torch.where(moves, staying + partner, (~moves).cumsum(dim=-1) - 1)
    every = torch.arange(keys.shape[1], device=keys.device)
    of_b = (staying + every[: keys.shape[1] - best.shape[1]]).expand(keys.shape[0], -1)
    turn = every // 2 + torch.where(every % 2 == first, 0, best.shape[1])  # every token's place in A followed by B
    return torch.cat((of_a, of_b), dim=1)[:, turn]
