"""Which layers lose most in int8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.int8.layers import layers, watch
from vitrail.trainable import Embedder

NUM_IMAGES = 32


def worst_first(task: Embedder, images: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of the layers by falling noise, which is what int8 changes of a layer's outputs over their energy.

    Each is looked at alone, with exact inputs, on the first images.

    Args:
        images: preprocessed, each (1, C, H, W).
    """
    energy = dict.fromkeys(layers(task), 0.0)
    noise = dict.fromkeys(energy, 0.0)

    def observe(name: str, layer: nn.Linear, x: Tensor) -> None:
        exact = F.linear(x, layer.weight)
        energy[name] += float(exact.square().sum())
        rounded = F.linear(round_activations(x), round_weights(layer.weight))
        noise[name] += float((rounded - exact).square().sum())

    watch(task, images[:NUM_IMAGES], observe)
    return tuple(sorted(noise, key=lambda name: -noise[name] / max(energy[name], 1e-30)))


def round_activations(x: Tensor) -> Tensor:
    """To 256 evenly spaced values from its least to its largest, zero among them."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(x.dtype).tiny)
    zero = torch.round(-low / scale)
    return (torch.round(x / scale) + zero).clamp(0, 255).sub(zero) * scale


def round_weights(weight: Tensor) -> Tensor:
    """Each row (an output channel) to 255 evenly spaced values around zero."""
    scale = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.round(weight / scale) * scale
