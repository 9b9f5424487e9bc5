"""Attention rollout (Abnar & Zuidema 2020): attention followed through the layers down to the patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, heat, layer_index
from vitrail.explain.attentions import attentions, received, with_joined
from vitrail.explain.restored import makes_pictures
from vitrail.trainable import EncoderModule, image_encoder

Fusion = Literal["mean", "max", "min"]


@config
class Options:
    """How to follow the attention.

    Args:
        layer: up to and with this layer; default: the last.
        fusion: how the heads become one.
        discard: share of the weakest attention weights of each layer to leave out.
    """

    layer: int = -1
    fusion: Fusion = "mean"
    discard: Annotated[float, Field(ge=0, lt=1)] = 0.0


def suits(task: EncoderModule) -> bool:
    """Every ViT attends; of a model that makes pictures each pixel may be a token, too many for maps between them."""
    return not makes_pictures(task)


@torch.no_grad()
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map for the class token, or for the mean of the patches where there is none.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer.
    """
    vit = image_encoder(task)
    grid = vit.grid(images)
    last = layer_index(task, options.layer)
    flow = rollout(attentions(task, images, *padding, layers=range(last + 1)), options.fusion, options.discard)
    patches = received(flow[0], vit, grid, *padding)
    return [heat(f"rollout to layer {last}", patches, grid)]


def rollout(matrices: Sequence[Tensor], fusion: Fusion = "mean", discard: float = 0.0) -> Tensor:
    """Attention matrices B H T T, first layer first → B T T of the last layer's T, rows sum to 1.

    Ã = ½ A + ½ I stands for the residual connection; the result is Ã_L … Ã_2 Ã_1 (their section 3).
    """
    flow = torch.zeros_like(matrices[0][:, 0, :0, :0])
    for weights in matrices:
        flow = with_joined(flow, weights.shape[-1])
        identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
        fused = _discard(_fuse(weights, fusion), discard)
        fused = fused / fused.sum(dim=-1, keepdim=True)
        flow = (fused + identity) / 2 @ flow
    return flow


def _fuse(weights: Tensor, fusion: Fusion) -> Tensor:
    """B H T T → B T T."""
    if fusion == "mean":
        return weights.mean(dim=1)
    return weights.amax(dim=1) if fusion == "max" else weights.amin(dim=1)


def _discard(weights: Tensor, share: float) -> Tensor:
    """Zero the weakest ``share`` of each row, so that every token keeps its strongest links."""
    count = int(weights.shape[-1] * share)
    if count == 0:
        return weights
    weakest = weights.topk(count, dim=-1, largest=False).indices
    return weights.scatter(-1, weakest, 0.0)
