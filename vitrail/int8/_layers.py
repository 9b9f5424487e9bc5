"""The layers that become int8, and what goes into them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from vitrail.trainable import Embedder

BATCH = 8
See: TypeAlias = Callable[[str, nn.Linear, Tensor], None]


def layers(task: Embedder) -> dict[str, nn.Linear]:
    """The linear layers of the blocks by their names in ``task``."""
    return {
        f"vit.blocks.{name}": module
        for name, module in task.vit.blocks.named_modules()
        if isinstance(module, nn.Linear)
    }


def belongs(product: str, layers: Collection[str]) -> bool:
    """Is it the product of one of the layers, or of a part of one, such as ``…qkv.0``?"""
    return product in layers or product.rpartition(".")[0] in layers


@torch.inference_mode()
def watch(task: Embedder, images: Sequence[Tensor], see: See) -> None:
    """Run ``task`` on images, each (1, C, H, W), and let ``see(name, layer, x)`` have each layer's input (…, D)."""

    def hook(name: str, layer: Any, arguments: tuple[Tensor, ...]) -> None:
        see(name, layer, arguments[0])

    handles = [layer.register_forward_pre_hook(partial(hook, name)) for name, layer in layers(task).items()]
    try:
        for start in range(0, len(images), BATCH):
            task(torch.cat(tuple(images[start : start + BATCH])))
    finally:
        for handle in handles:
            handle.remove()
