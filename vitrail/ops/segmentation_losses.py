"""Losses of a class for every pixel. Shapes: B images, K classes; labels int64 (B, H, W), 255 where unlabelled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = 255
"""The label of pixels that are not labelled."""
SMOOTH = 1e-5


def cell_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled pixels, each predicted by the logits (B, K, h, w) of its cell.

    It is computed in float32 from how many pixels of a cell are of which class; 0 where none is labelled.
    """
    images, classes, *grid = logits.shape
    rows, columns = (
        torch.arange(length, device=labels.device) * cells // length
        for length, cells in zip(labels.shape[1:], grid, strict=True)
    )
    image = torch.arange(images, device=labels.device)[:, None, None]
    cell = (image * grid[0] + rows[:, None]) * grid[1] + columns
    place = (cell * (classes + 1) + labels.clamp(max=classes)).flatten()  # the last: not labelled
    counts = logits.new_zeros(images * grid[0] * grid[1] * (classes + 1), dtype=torch.float32)
    counts = counts.index_add_(0, place, torch.ones_like(place, dtype=torch.float32))
    counts = counts.view(images, *grid, classes + 1)[..., :classes].permute(0, 3, 1, 2)
    return -(counts * logits.float().log_softmax(dim=1)).sum() / counts.sum().clamp(min=1)


def cross_entropy_and_dice(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of logits (B, K, H, W) the mean cross-entropy of the labelled pixels, and 1 − mean over the classes of
    2 Σ p·y / (Σ p² + Σ y²), sums over the labelled pixels of the batch, as in TransUNet (Milletari et al. 2016,
    equation 1); in float32. Where none is labelled, both are 0.

    Both gradients are computed in one go, so that of all that is as large as the logits only p is kept.
    """
    losses: tuple[Tensor, Tensor] = _CrossEntropyAndDice.apply(logits, labels)
    return losses


class _CrossEntropyAndDice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        known = (labels != IGNORE).unsqueeze(1)
        own = labels.masked_fill(labels == IGNORE, 0).unsqueeze(1)
        probabilities = logits.float().log_softmax(dim=1)
        log_right = probabilities.gather(1, own) * known
        probabilities.exp_().mul_(known)  # zero where not labelled
        number = known.sum().clamp(min=1)
        joint, size = (
            probabilities.new_zeros(logits.shape[1]).index_add_(0, own.flatten(), values.flatten())
            for values in (log_right.exp() * known, known.float())
        )
        size = size + probabilities.square().sum((0, 2, 3)) + SMOOTH
        overlap = (2 * joint + SMOOTH) / size
        ctx.save_for_backward(probabilities, known, own, number, overlap, size)
        ctx.dtype = logits.dtype
        return -log_right.sum() / number, 1 - overlap.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cross_entropy: Tensor, by_dice: Tensor) -> tuple[Tensor, None]:
        p, known, own, number, overlap, size = ctx.saved_tensors
        for_class = 2 * by_dice / (len(size) * size)
        gradient = p * (for_class * overlap)[:, None, None]  # of the probabilities, then of the logits
        gradient.scatter_add_(1, own, -for_class[own] * known)
        each = known * (by_cross_entropy / number)
        gradient.sub_((p * gradient).sum(dim=1, keepdim=True) - each).mul_(p).scatter_add_(1, own, -each)
        return gradient.to(ctx.dtype), None
