"""SmoothQuant (Xiao et al. 2023): the few channels that LayerNorm makes large are evened out before quantisation.

One scale serves all channels of an activation, so a few large ones cost the others their precision. With s_j > 0, x W =
(x / s)(s W): LayerNorm's weight and bias take the division and the linear layer behind it the factor, once for all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitrail.int8.layers import layers, watch
from vitrail.nn.block import Block
from vitrail.trainable import Embedder, image_encoder

ALPHA = 0.5  # the share of the difficulty that moves to the weights; the paper's choice
SMALLEST = 1e-5


def smooth(task: Embedder, images: Sequence[Tensor]) -> Embedder:
    """A copy of ``task`` that computes the same with smoother inputs of the layers behind a LayerNorm.

    Blocks whose LayerNorm comes after the sum stay as they are: the residual stream reads it, too.

    Args:
        images: preprocessed, each (1, C, H, W).
    """
    largest: dict[str, Tensor] = {}

    def observe(name: str, layer: nn.Linear, x: Tensor) -> None:
        found = x.abs().flatten(0, -2).amax(0)
        largest[name] = torch.maximum(largest[name], found) if name in largest else found

    watch(task, images, observe)
    twin = copy.deepcopy(task)
    names = {id(layer): name for name, layer in layers(twin).items()}
    for block in image_encoder(twin).blocks:
        if isinstance(block, Block) and block.order == "pre" and block.norm1.weight is not None:
            _divide(block.norm1, block.attention.qkv, largest[names[id(block.attention.qkv)]])
            _divide(block.norm2, block.mlp.fc1, largest[names[id(block.mlp.fc1)]])
    return twin


@torch.no_grad()
def _divide(norm: nn.LayerNorm | nn.RMSNorm, linear: nn.Linear, largest: Tensor) -> None:
    """Paper's eq. 4: s_j = max|X_j|^α / max|W_j|^(1 − α), one scale an input channel."""
    weights = linear.weight.abs().amax(0).clamp(min=SMALLEST)
    scale = largest.clamp(min=SMALLEST) ** ALPHA / weights ** (1 - ALPHA)
    norm.weight.div_(scale)
    if isinstance(norm, nn.LayerNorm):
        norm.bias.div_(scale)
    linear.weight.mul_(scale)
