"""Compilation of a model, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from vitrail.trainable import EncoderModule, layers_of

Backend: TypeAlias = str | Callable[[torch.fx.GraphModule, list[Tensor]], Callable[..., object]]
"""The name of a backend of torch.compile, or a function of a graph and its inputs."""
MOST_GRAPHS = 64
"""Of a kind of layer: for sizes of crops, training and evaluation, with and without gradients or stochastic depth."""


def compile_layers(model: EncoderModule, backend: Backend = "inductor") -> None:
    """Compile the layers of encoders and decoders in place; names in the state dict stay.

    A loss calls them whichever part of the model it runs, and equal layers share a graph.
    """
    import torch._dynamo  # slow, and needed here alone

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    for layer in layers_of(model):
        layer.compile(backend=backend)
