"""Grad-CAM (Selvaraju et al. 2017) on patch tokens: which of them raise one output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_index, class_scores, has_answers, heat, layer_index, output_name
from vitrail.explain.attentions import encoder_of_all_tokens
from vitrail.nn.attend import Positions
from vitrail.nn.attention import Attention, AttentionPattern
from vitrail.nn.recording import wrapped
from vitrail.trainable import EncoderModule


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
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map: ReLU(Σ_c α_nc A_nc), A the patch tokens that enter the layer's attention, α_nc = ∂y/∂A_nc or its mean.

    These tokens reach the output whether it is read from the class token or pooled from the patches.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or output, or the encoder's layers merge tokens.
    """
    vit = encoder_of_all_tokens(task)
    layer, caught = layer_index(task, options.layer), list[Tensor]()
    with wrapped({layer: vit.blocks[layer]}, lambda _, pattern: _Watched(pattern, caught.append)):
        outputs = class_scores(task, images, *padding)
    index = chosen_index(outputs, options.target)
    (gradient,) = torch.autograd.grad(outputs[index], caught)
    grid = vit.grid(images)
    num_patches = grid[0] * grid[1]  # the last tokens, whatever stands before them
    activations, weights = caught[0][0, -num_patches:], gradient[0, -num_patches:]
    if options.weights == "mean":
        weights = weights.mean(dim=0)
    values = (activations * weights).sum(dim=1).relu()
    return [heat(f"Grad-CAM for {output_name(task, index)}, layer {layer}", values, grid)]


@dataclass(frozen=True)
class _Watched:
    """A pattern whose input, (1, T, D), is kept."""

    pattern: AttentionPattern
    keep: Callable[[Tensor], None]

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        self.keep(x)
        return self.pattern(module, x, positions)

    def mask(self, x: Tensor) -> Tensor | None:
        return self.pattern.mask(x)
