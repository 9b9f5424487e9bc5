"""Matching and losses of queries that are masks (Cheng et al. 2022, Mask2Former, section 4.1).

Shapes: B images, Q queries, K classes, N segments of one image, M of a batch, P cells of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops import matching
from vitrail.ops.mask_losses import mask_cross_entropy, mask_dice
from vitrail.ops.matching import Pairs
from vitrail.ops.set_losses import ClassRule


class MaskWeights(NamedTuple):
    """How much the class, the cross-entropy of the mask and its dice count, in a match and in the loss."""

    label: float
    mask: float
    dice: float


class TrueMasks(NamedTuple):
    """The segments to find, image after image."""

    labels: Tensor
    """(M,) int64."""
    masks: Tensor
    """(M, H, W), how much of each cell is the segment's, on a grid as fine as that of the predicted masks or finer."""
    counts: tuple[int, ...]
    """Segments of each image."""


@torch.no_grad()
def match(
    rule: ClassRule, layers: Sequence[tuple[Tensor, Tensor]], truth: TrueMasks, weights: MaskWeights
) -> list[Pairs]:
    """The cheapest pairing of queries and segments in each image, layer by layer.

    Args:
        layers: logits (B, Q, width of the rule) and masks (B, Q, h, w) of each layer, compared on the masks' own grid.
    """
    shares = F.adaptive_avg_pool2d(truth.masks, (layers[0][1].shape[-2], layers[0][1].shape[-1])).flatten(1)
    labels, true = (matching.by_image(values, truth.counts) for values in (truth.labels, shares))
    costs = [
        weights.label * rule.cost(logits.float(), labels) + mask_cost(masks.float().flatten(2), true, weights)
        for logits, masks in layers
    ]
    return matching.assign_layers(costs, truth.counts)


def mask_cost(logits: Tensor, true: Tensor, weights: MaskWeights) -> Tensor:
    """Cross-entropy and dice of each pair of an image, weighted: (B, Q, P) and (B, N, P) → (B, Q, N)."""
    # −y log σ(x) − (1 − y) log(1 − σ(x)) is softplus(x) − x y
    cross_entropy = (F.softplus(logits).sum(dim=2, keepdim=True) - logits @ true.mT) / logits.shape[2]
    probabilities = logits.sigmoid()
    size = probabilities.sum(dim=2, keepdim=True) + true.sum(dim=2).unsqueeze(1)
    dice = 1 - (2 * probabilities @ true.mT + 1) / (size + 1)
    return weights.mask * cross_entropy + weights.dice * dice


def mask_set_losses(
    rule: ClassRule,
    layers: Sequence[tuple[Tensor, Tensor]],
    truth: TrueMasks,
    weights: MaskWeights,
    num_segments: Tensor,
) -> dict[str, Tensor]:
    """``label``, ``mask`` and ``dice`` of all layers, each with a matching of its own, summed and weighted.

    Args:
        layers: logits (B, Q, width of the rule) and masks (B, Q, h, w) of each layer; these are compared bilinearly
            enlarged to the grid of the true ones.
        num_segments: what sums are divided by: of the step's segments, these images' share.
    """
    size = truth.masks.shape[-2:]
    total = {name: layers[0][0].new_zeros((), dtype=torch.float32) for name in MaskWeights._fields}
    for (logits, masks), pairs in zip(layers, match(rule, layers, truth, weights), strict=True):
        labels = torch.full(logits.shape[:2], -1, device=logits.device)
        labels[pairs.image, pairs.query] = truth.labels[pairs.target]
        own, true = masks[pairs.image, pairs.query], truth.masks[pairs.target]
        own = (
            F.interpolate(own[None], size, mode="bilinear", align_corners=False)[0]
            if len(own)
            else own.new_zeros(true.shape)
        )
        label = rule.loss(logits.float(), labels) / rule.divisor(num_segments, labels.numel())
        total["label"] = total["label"] + weights.label * label
        total["mask"] = total["mask"] + weights.mask * mask_cross_entropy(own, true, num_segments)
        total["dice"] = total["dice"] + weights.dice * mask_dice(own, true, num_segments)
    return total
