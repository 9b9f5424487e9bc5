"""The layers that become int8, and their inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from vitrail.trainable import Embedder

BATCH = 8
Observe: TypeAlias = Callable[[str, nn.Linear, Tensor], None]


def layers(task: Embedder) -> dict[str, nn.Linear]:
    """The linear layers of the blocks of the first encoder, by their names in ``task``."""
    path, encoder = next(iter(task.encoders().items()))
    return {
        f"{path}.blocks.{name}": module
        for name, module in encoder.blocks.named_modules()
        if isinstance(module, nn.Linear)
    }


def belongs(product: str, layers: Collection[str]) -> bool:
    """Is it the product of one of the layers, or of a part of one, such as ``…qkv.0``?"""
    return product in layers or product.rpartition(".")[0] in layers


@torch.inference_mode()
def watch(task: Embedder, images: Sequence[Tensor], observe: Observe) -> None:
    """Run ``task`` on images, each (1, C, H, W).

    Args:
        observe: called with (name, layer, x): the input x (…, D) of each layer.
    """

    def hook(name: str, layer: Any, arguments: tuple[Tensor, ...]) -> None:
        observe(name, layer, arguments[0])

    handles = [layer.register_forward_pre_hook(partial(hook, name)) for name, layer in layers(task).items()]
    try:
        for start in range(0, len(images), BATCH):
            task(torch.cat(tuple(images[start : start + BATCH])))
    finally:
        for handle in handles:
            handle.remove()
