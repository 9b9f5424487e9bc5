"""Gradient-weighted attention followed through all layers (Chefer, Gur & Wolf 2021): rollout for one class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_output, has_answers, heat
from vitrail.ops.attention import from_queries
from vitrail.ops.relative import Offsets
from vitrail.ops.rope import Rotation


@config
class Options:
    """For what.

    Args:
        target: index of the output (class) to explain; default: the largest.
    """

    target: Target = None


def suits(task: Any) -> bool:
    """Does it have outputs to explain?"""
    return has_answers(task)


@torch.enable_grad()
def explain(task: Any, images: Tensor, options: Options) -> list[Heat]:
    """One map: R ← R + E_heads[(∇A ⊙ A)⁺] R from the first layer to the last, R₀ = I (their equations 5 and 6).

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such output.
    """
    vit = task.backbone
    with _watched([block.attention for block in vit.blocks]) as attentions:
        outputs = task.class_scores(task(images.clone().requires_grad_()))[
            0
        ]  # a path for gradients even if all is frozen
    gradients = torch.autograd.grad(chosen_output(outputs, options.target), attentions)
    flow = relevance([a.detach()[0] for a in attentions], [g[0] for g in gradients])
    patches = from_queries(flow, vit.config.class_token, vit.num_prefix)
    return [heat("relevance", patches, vit.embed.grid(images.shape[-2:]))]


def relevance(attentions: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Attention matrices and their gradients, H T T each, first layer first → T T."""
    flow = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for weights, gradient in zip(attentions, gradients, strict=True):
        flow = flow + (weights * gradient).relu().mean(dim=0) @ flow
    return flow


@contextmanager
def _watched(modules: list[Any]) -> Iterator[list[Tensor]]:
    """While it lasts, the attention modules compute their matrices (B H T T) openly and leave them in the list."""
    matrices: list[Tensor] = []

    def watch(module: Any) -> None:
        def forward(x: Tensor, positions: Rotation | Offsets | None = None) -> Tensor:
            matrices.append(module.weights(x, positions))
            values = module.project(x, positions)[2]
            mixed: Tensor = module.out((matrices[-1] @ values).transpose(1, 2).flatten(2))
            return mixed

        module.forward = forward

    for module in modules:
        watch(module)
    try:
        yield matrices
    finally:
        for module in modules:
            del module.forward  # the class's own again
