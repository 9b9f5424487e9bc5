"""Losses of a class for every pixel. Shapes: B images, K classes; labels int64 (B, H, W), 255 where unlabelled.

Cross-entropies are sums divided by ``num_pixels``, which is of the labelled pixels of a step the share of these images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = 255
"""The label of pixels that are not labelled."""
SMOOTH = 1e-5


def num_labelled(labels: Tensor) -> Tensor:
    """The number of labelled pixels."""
    return (labels != IGNORE).sum()


def cell_cross_entropy(logits: Tensor, labels: Tensor, num_pixels: Tensor) -> Tensor:
    """Cross-entropy of the labelled pixels, each predicted by the logits (B, K, h, w) of its cell.

    It is computed in float32 from how many pixels of a cell are of which class.
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
    return -(counts * logits.float().log_softmax(dim=1)).sum() / num_pixels


def cross_entropy_and_dice(logits: Tensor, labels: Tensor, num_pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Of logits (B, K, H, W) the cross-entropy of the labelled pixels, and the mean over the images of 1 − the mean
    over an image's classes of 2 Σ p·y / (Σ p² + Σ y²), sums over its labelled pixels (Milletari et al. 2016,
    equation 1); in float32. An image without a labelled pixel adds 0.

    TransUNet sums over all images of a batch instead: pieces of a batch would be another objective than the batch.

    Both gradients are computed in one go, so that of all that is as large as the logits only p is kept.
    """
    losses: tuple[Tensor, Tensor] = _CrossEntropyAndDice.apply(logits, labels, num_pixels)
    return losses


class _CrossEntropyAndDice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, num_pixels: Tensor) -> tuple[Tensor, Tensor]:
        known = (labels != IGNORE).unsqueeze(1)
        own = labels.masked_fill(labels == IGNORE, 0).unsqueeze(1)
        probabilities = logits.float().log_softmax(dim=1)
        log_right = probabilities.gather(1, own) * known
        probabilities.exp_().mul_(known)  # zero where not labelled
        joint, area = (
            probabilities.new_zeros(logits.shape[:2]).scatter_add_(1, own.flatten(1), values.flatten(1))
            for values in (log_right.exp() * known, known.float())
        )
        there = area > 0
        weight = there / (len(there) * there.sum(dim=1, keepdim=True).clamp(min=1))
        size = area + probabilities.square().sum((2, 3)) + SMOOTH
        overlap = (2 * joint + SMOOTH) / size
        ctx.save_for_backward(probabilities, known, own, num_pixels, weight, overlap, size)
        ctx.dtype = logits.dtype
        return -log_right.sum() / num_pixels, (weight * (1 - overlap)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cross_entropy: Tensor, by_dice: Tensor) -> tuple[Tensor, None, None]:
        p, known, own, num_pixels, weight, overlap, size = ctx.saved_tensors
        for_class = 2 * by_dice * weight / size
        gradient = p * (for_class * overlap)[:, :, None, None]  # of the probabilities, then of the logits
        gradient.scatter_add_(1, own, -for_class.gather(1, own.flatten(1)).view_as(own) * known)
        each = known * (by_cross_entropy / num_pixels)
        gradient.sub_((p * gradient).sum(dim=1, keepdim=True) - each).mul_(p).scatter_add_(1, own, -each)
        return gradient.to(ctx.dtype), None, None
