"""Gradient-weighted attention followed through all layers (Chefer, Gur & Wolf 2021): rollout for one class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_output, class_scores, has_answers, heat
from vitrail.nn.attend import Positions
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block
from vitrail.ops.attention import from_queries
from vitrail.trainable import EncoderModule, image_encoder


@config
class Options:
    """For what.

    Args:
        target: index of the output (class) to explain; default: the largest.
    """

    target: Target = None


def suits(task: EncoderModule) -> bool:
    """Does it have outputs to explain?"""
    return has_answers(task)


@torch.enable_grad()
def explain(task: EncoderModule, images: Tensor, options: Options) -> list[Heat]:
    """One map: R ← R + E_heads[(∇A ⊙ A)⁺] R from the first layer to the last, R₀ = I (their equations 5 and 6).

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such output.
    """
    vit = image_encoder(task)
    with _watched([cast("Block", block).attention for block in vit.blocks]) as attentions:
        outputs = class_scores(task, images)
    gradients = torch.autograd.grad(chosen_output(outputs, options.target), attentions)
    flow = relevance([a.detach()[0] for a in attentions], [g[0] for g in gradients])
    grid = vit.grid(images)
    num_joined = len(flow) - vit.num_prefix - grid[0] * grid[1]
    patches = from_queries(flow[num_joined:, num_joined:], vit.config.class_token, vit.num_prefix)
    return [heat("relevance", patches, grid)]


def relevance(attentions: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Attention matrices and their gradients, H T T each, first layer first → T T of the last layer's T.

    Tokens that a layer has more than the one before it are its first ones.
    """
    flow = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for weights, gradient in zip(attentions, gradients, strict=True):
        if num_joined := weights.shape[-1] - len(flow):
            flow = torch.block_diag(torch.eye(num_joined, dtype=flow.dtype, device=flow.device), flow)
        flow = flow + (weights * gradient).relu().mean(dim=0) @ flow
    return flow


@contextmanager
def _watched(modules: list[Attention]) -> Iterator[list[Tensor]]:
    """While it lasts, the attention modules compute their matrices (B H T T) and append them to the list."""
    matrices: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, Positions], _: Tensor) -> Tensor:
        """Put what the matrix gives in place of the fused kernel's output."""
        attention = cast("Attention", module)
        matrices.append(attention.weights(*inputs))
        values = attention.project(*inputs[:2])[2]
        mixed: Tensor = attention.out((matrices[-1] @ values).transpose(1, 2).flatten(2))
        return mixed

    hooks = [module.register_forward_hook(watch) for module in modules]
    try:
        yield matrices
    finally:
        for hook in hooks:
            hook.remove()
