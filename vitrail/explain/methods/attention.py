"""Raw attention: what the class token attends to, in each layer and head."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.explain import Heat, heat, layer_index
from vitrail.explain.attentions import attentions, received
from vitrail.explain.restored import makes_pictures
from vitrail.trainable import EncoderModule, image_encoder


@config
class Options:
    """Which maps.

    Args:
        layer: one layer, head by head (0 is the first, -1 the last); default: all layers, mean over heads.
        head: one head only.
    """

    layer: int | None = None
    head: Annotated[int, Field(ge=0)] | None = None


def suits(task: EncoderModule) -> bool:
    """Every ViT attends; of a model that makes pictures each pixel may be a token, too many for maps between them."""
    return not makes_pictures(task)


@torch.no_grad()
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """Attention to the patches from the class token, or from all patches on average where there is none.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or head.
    """
    vit = image_encoder(task)
    grid = vit.grid(images)
    layers = range(vit.depth) if options.layer is None else [layer_index(task, options.layer)]
    maps = []
    for layer, weights in zip(layers, attentions(task, images, *padding, layers=layers), strict=True):
        patches = received(weights[0], vit, grid, *padding)
        for title, row in _choose(patches, options):
            maps.append(heat(f"layer {layer}, {title}", row, grid))
    return maps


def _choose(patches: Tensor, options: Options) -> list[tuple[str, Tensor]]:
    """Titled rows of (heads, N)."""
    if options.head is not None:
        if options.head >= len(patches):
            raise UserError(f"there is no head {options.head}; this model has heads 0 to {len(patches) - 1}")
        return [(f"head {options.head}", patches[options.head])]
    mean = [("mean of heads", patches.mean(dim=0))]
    if options.layer is None:
        return mean
    return [(f"head {i}", row) for i, row in enumerate(patches)] + mean
