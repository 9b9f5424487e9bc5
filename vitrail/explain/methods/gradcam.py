"""Grad-CAM (Selvaraju et al. 2017) on patch tokens: where the evidence for one output lies."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.explain import Heat, heat, layer_index


@config
class Options:
    """For what, and where.

    Args:
        target: index of the output (class) to explain; default: the largest.
        layer: the block whose normalised input tokens are weighed (0 is the first, -1 the last).
    """

    target: Annotated[int, Field(ge=0)] | None = None
    layer: int = -1


def explain(task: Any, images: Tensor, options: Options) -> list[Heat]:
    """One map: ReLU(Σ_c α_c A_c), A the patch tokens that enter the layer's attention, α_c = mean_n ∂y/∂A_nc.

    These tokens reach the output whether it is read from the class token or pooled from the patches.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or output.
    """
    vit = task.vit
    layer = layer_index(task, options.layer)
    outputs, tokens = _run(task, vit.blocks[layer].attention, images)
    target = int(outputs.argmax()) if options.target is None else options.target
    if target >= len(outputs):
        raise UserError(f"there is no output {target}; this model has outputs 0 to {len(outputs) - 1}")
    (gradient,) = torch.autograd.grad(outputs[target], tokens)
    activations, gradient = tokens[0, vit.num_prefix :], gradient[0, vit.num_prefix :]
    values = (activations * gradient.mean(dim=0)).sum(dim=1).relu()
    return [heat(f"Grad-CAM at layer {layer}", values, vit.embed.grid(images.shape[-2:]))]


def _run(task: nn.Module, module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (K,) of one image and the tokens (1, T, D) that entered ``module`` on the way."""
    caught: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        with torch.enable_grad():
            outputs = task(images.clone().requires_grad_())  # a path for gradients even if all is frozen
    finally:
        hook.remove()
    return outputs[0], caught[0]
