"""The attention matrices of a task's encoder, as the task computes them.

Shapes: B images, H heads, T tokens of the encoder, of which the last N are the patches. From the layer on in which Q
queries join them there are T' = Q + T, the queries first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.errors import UserError
from vitrail.nn.recording import recorded
from vitrail.ops.attention import from_queries
from vitrail.ops.grid import Pair
from vitrail.ops.patches import padded_cells
from vitrail.trainable import Embedder, EncoderModule, image_encoder
from vitrail.vit import ViT

MOST = 1 << 13
"""Patches of an image: more would take gigabytes for each head."""


@torch.no_grad()
def attentions(
    task: EncoderModule, images: Tensor, *padding: Tensor, layers: Iterable[int] | None = None
) -> list[Tensor]:
    """Matrices B H T' T' of the given layers (default: all), zero where a token does not attend to another one; rows
    sum to 1.

    Args:
        images: B C H W, preprocessed.
        padding: of a spatial task, bool (B, H, W), true where a pixel is not the image's.

    Raises:
        UserError: see :func:`encoder_of_all_tokens`, or too many patches for a matrix of them.
    """
    vit = encoder_of_all_tokens(task)
    if (count := math.prod(vit.grid(images))) > MOST:
        raise UserError(f"maps of attention between {count:,} patches are too large, {MOST:,} at most; cut a part out")
    wanted = list(range(vit.depth) if layers is None else layers)
    with recorded({layer: vit.blocks[layer] for layer in wanted}) as found:
        if isinstance(task, Embedder):
            task.one_view()(images, *padding)
        else:
            vit(images)
    return [found[layer] for layer in wanted]


def encoder_of_all_tokens(task: EncoderModule) -> ViT:
    """The first encoder.

    Raises:
        UserError: it is no image encoder, or its layers merge tokens.
    """
    vit = image_encoder(task)
    if not vit.fixed_token_count:
        raise UserError("attention maps need all tokens; take the plain model, without merging")
    return vit


def received(weights: Tensor, vit: ViT, grid: Pair, *padding: Tensor) -> Tensor:
    """The attention that the patches of one image receive from the class token, or where there is none from the image's
    patches on average: (…, T', T') → (…, N).

    Args:
        padding: as of :func:`attentions`, of the one image.
    """
    tokens = own(weights, vit, grid)
    for each in padding:
        image = F.pad(~padded_cells(each, grid).flatten(), (vit.num_prefix, 0), value=True)
        tokens = tokens[..., image, :]
    return from_queries(tokens, vit.config.class_token, vit.num_prefix)


def own(weights: Tensor, vit: ViT, grid: Pair) -> Tensor:
    """(…, T', T') → (…, T, T): without the queries."""
    count = vit.num_prefix + grid[0] * grid[1]
    return weights[..., -count:, -count:]


def with_joined(flow: Tensor, num_tokens: int) -> Tensor:
    """What flows to each token, (…, T, T) → (…, T', T'): of queries that join the tokens only themselves so far."""
    joined = num_tokens - flow.shape[-1]
    new = torch.eye(num_tokens, dtype=flow.dtype, device=flow.device)[:joined].expand(*flow.shape[:-2], -1, -1)
    return torch.cat((new, F.pad(flow, (joined, 0))), dim=-2)
