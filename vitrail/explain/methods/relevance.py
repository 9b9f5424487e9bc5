"""Gradient-weighted attention followed through all layers (Chefer, Gur & Wolf 2021): rollout for one class."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_index, class_scores, has_answers, heat, output_name
from vitrail.explain.attentions import encoder_of_all_tokens, received, with_joined
from vitrail.explain.restored import makes_pictures
from vitrail.nn.recording import recorded
from vitrail.trainable import EncoderModule


@config
class Options:
    """For what.

    Args:
        target: index of the output (class) to explain; default: the largest.
    """

    target: Target = None


def suits(task: EncoderModule) -> bool:
    """Does it have outputs to explain, and few enough tokens for maps between them?"""
    return has_answers(task) and not makes_pictures(task)


@torch.enable_grad()
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map: R ← R + E_heads[(∇A ⊙ A)⁺] R from the first layer to the last, R₀ = I (their equations 5 and 6).

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such output, or the encoder's layers merge tokens.
    """
    vit = encoder_of_all_tokens(task)
    with recorded(dict(enumerate(vit.blocks))) as found:
        outputs = class_scores(task, images, *padding)
    matrices = [found[layer] for layer in range(vit.depth)]
    index = chosen_index(outputs, options.target)
    gradients = torch.autograd.grad(outputs[index], matrices)
    flow = relevance([a.detach()[0] for a in matrices], [g[0] for g in gradients])
    grid = vit.grid(images)
    patches = received(flow, vit, grid, *padding)
    return [heat(f"relevance for {output_name(task, index)}", patches, grid)]


def relevance(attentions: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Attention matrices and their gradients, H T T each, first layer first → T T of the last layer's T."""
    flow = torch.zeros_like(attentions[0][0, :0, :0])
    for weights, gradient in zip(attentions, gradients, strict=True):
        flow = with_joined(flow, weights.shape[-1])
        flow = flow + (weights * gradient).relu().mean(dim=0) @ flow
    return flow
