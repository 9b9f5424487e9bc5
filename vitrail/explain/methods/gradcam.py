"""Grad-CAM (Selvaraju et al. 2017) on patch tokens: which of them raise one output."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_output, class_scores, has_answers, heat, layer_index
from vitrail.nn.block import Block
from vitrail.trainable import EncoderModule, image_encoder


@config
class Options:
    """For what, and where.

    Args:
        target: index of the output (class) to explain; default: the largest.
        layer: the block whose normalised input tokens are weighed (0 is the first, -1 the last).
        weights: of a channel in a token: its own gradient (``token``, HiResCAM, Draelos & Carin 2020), or the
            gradients' mean over all tokens (``mean``, the original). In a plain ViT a channel's gradient changes sign
            from token to token, and the mean often points at the background.
    """

    target: Target = None
    layer: int = -1
    weights: Literal["token", "mean"] = "token"


def suits(task: EncoderModule) -> bool:
    """Does it have outputs to explain?"""
    return has_answers(task)


@torch.enable_grad()
def explain(task: EncoderModule, images: Tensor, options: Options) -> list[Heat]:
    """One map: ReLU(Σ_c α_nc A_nc), A the patch tokens that enter the layer's attention, α_nc = ∂y/∂A_nc or its mean.

    These tokens reach the output whether it is read from the class token or pooled from the patches.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or output.
    """
    vit = image_encoder(task)
    layer = layer_index(task, options.layer)
    outputs, tokens = _run(task, cast("Block", vit.blocks[layer]).attention, images)
    (gradient,) = torch.autograd.grad(chosen_output(outputs, options.target), tokens)
    grid = vit.grid(images)
    num_patches = grid[0] * grid[1]  # the last tokens, whatever stands before them
    activations, weights = tokens[0, -num_patches:], gradient[0, -num_patches:]
    if options.weights == "mean":
        weights = weights.mean(dim=0)
    values = (activations * weights).sum(dim=1).relu()
    return [heat(f"Grad-CAM at layer {layer}", values, grid)]


def _run(task: EncoderModule, module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (K,) of one image and the tokens (1, T, D) that entered ``module`` on the way."""
    caught: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        outputs = class_scores(task, images)
    finally:
        hook.remove()
    return outputs, caught[0]
