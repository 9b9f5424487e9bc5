"""Boxes as distributions of where their sides lie (Peng et al. 2024, D-FINE).

A side is where a box that was predicted before has it, plus an expected shift in units of that box's size. The shifts
that a distribution is over lie close together around 0 and far apart beyond, so that small corrections are exact.

Shapes: B images, Q queries, N intervals between N + 1 shifts, M matched queries. Sides are left, top, right and bottom.
Boxes are ``cxcywh`` as shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops import boxes as box_ops
from vitrail.ops.matching import Pairs
from vitrail.ops.set_losses import Truth

TEMPERATURE = 5.0  # of the distributions that are distilled
THINNEST = 1e-5  # side of a box
SMALLEST = 1e-6  # a number of queries to divide by, of which there may be a fraction


class Shifts(NamedTuple):
    """What sides may be shifted by: W(n), n = 0 … N (equation 3).

    Attributes:
        intervals: N, an even number, 4 at least.
        reach: the a of the paper: the last but one shift, as a share of the box's side; the last one is twice as far.
        scale: the c of the paper: shifts are in units of the box's side divided by it. The larger, the closer together
            are those around 0.
    """

    intervals: int
    reach: float
    scale: float

    def values(self) -> tuple[float, ...]:
        """From the farthest inwards to the farthest outwards, N + 1 numbers."""
        bound = self.reach * self.scale
        base = (bound + 1) ** (2 / (self.intervals - 2))
        outwards = (*(base**n - 1 for n in range(1, self.intervals // 2)), 2 * bound)
        return (*(-value for value in reversed(outwards)), 0.0, *outwards)

    def expected(self, logits: Tensor) -> Tensor:
        """Σ Pr(n) W(n): (…, N + 1) → (…)."""
        return (logits.softmax(dim=-1) * logits.new_tensor(self.values())).sum(dim=-1)

    def boxes(self, start: Tensor, shifts: Tensor) -> Tensor:
        """Boxes (…, 4) whose sides are shifted outwards by (…, 4) of sizes / scale (equation 2); none is inside out."""
        centre, size = start[..., :2], start[..., 2:]
        before = centre - (0.5 + shifts[..., :2] / self.scale) * size
        after = centre + (0.5 + shifts[..., 2:] / self.scale) * size
        return torch.cat(((before + after) / 2, (after - before).clamp(min=THINNEST)), dim=-1)

    def between(self, start: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Between which two shifts the sides of true boxes lie, seen from ``start``, both (M, 4).

        Returns: the lower of the two, int64 (M, 4), and how much of the weight the upper one has, in [0, 1]. Sides out
        of reach have the farthest shift.
        """
        centre, size = start[..., :2], start[..., 2:].clamp(min=THINNEST)
        corners = box_ops.cxcywh_to_xyxy(true)
        wanted = torch.cat(((centre - corners[..., :2]) / size, (corners[..., 2:] - centre) / size), dim=-1)
        wanted, values = (wanted - 0.5) * self.scale, start.new_tensor(self.values())
        lower = (torch.searchsorted(values, wanted.contiguous(), right=True) - 1).clamp(0, self.intervals - 1)
        share = (wanted - values[lower]) / (values[lower + 1] - values[lower])
        return lower, share.clamp(0, 1)


class Distribution(NamedTuple):
    """What a decoder layer says of where sides lie."""

    logits: Tensor
    """(B, Q, 4, N + 1)."""
    start: Tensor
    """(B, Q, 4), the boxes that shifts are from."""

    def of(self, image: Tensor, query: Tensor) -> Distribution:
        """Some queries as those of one image."""
        return Distribution(self.logits[image, query][None], self.start[image, query][None])


class Said(NamedTuple):
    """What is compared with the objects: of one decoder layer."""

    distribution: Distribution
    boxes: Tensor
    """(B, Q, 4)."""
    scores: Tensor
    """(B, Q) in [0, 1], of the likeliest class."""


def localisation_loss(shifts: Shifts, said: Said, truth: Truth, pairs: Pairs, num_objects: Tensor) -> Tensor:
    """Fine-grained localisation: the cross-entropy of the two shifts around each side of a query's object, weighted by
    how near they are and by the IoU of the box (equation 4), summed and divided by ``num_objects``."""
    rows, true = (pairs.image, pairs.query), truth.boxes[pairs.target]
    lower, share = shifts.between(said.distribution.start[rows].detach(), true)
    likely = said.distribution.logits[rows].float().log_softmax(dim=-1)
    low, high = (likely.gather(-1, each.unsqueeze(-1)).squeeze(-1) for each in (lower, lower + 1))
    each = -((1 - share) * low + share * high)
    return (each * _overlap(said.boxes, truth, pairs).unsqueeze(-1)).sum() / num_objects


def distillation_loss(
    said: Said, teacher: Said, truth: Truth, pairs: Pairs, num_matched: Tensor, num_others: Tensor
) -> Tensor:
    """Decoupled distillation: T² KL(teacher ‖ said) of each side, weighted by the IoU of queries with their objects and
    by the teacher's score of the others (equation 6), which counts matched and other queries by the roots of their
    numbers. Pairs are the layer's own, as in transformers, not those of all layers.

    Args:
        num_matched, num_others: queries with an object and without; of a step's, these images' share.
    """
    taught = teacher.distribution.logits.detach().float() / TEMPERATURE
    own = said.distribution.logits.float() / TEMPERATURE
    divergence = F.kl_div(own.log_softmax(dim=-1), taught.log_softmax(dim=-1), reduction="none", log_target=True)
    each = TEMPERATURE**2 * divergence.sum(dim=-1).mean(dim=-1)  # B Q
    matched = torch.zeros_like(each, dtype=torch.bool)
    matched[pairs.image, pairs.query] = True
    weight = teacher.scores.detach().float().clone()
    weight[pairs.image, pairs.query] = _overlap(said.boxes, truth, pairs)
    numbers = torch.stack((num_matched, num_others)).to(each)
    sums = torch.stack([(each * weight * among).sum() for among in (matched, ~matched)])
    roots = numbers.clamp(min=0).sqrt()
    return (roots * sums / numbers.clamp(min=SMALLEST)).sum() / roots.sum().clamp(min=SMALLEST)


def losses(
    shifts: Shifts,
    layers: Sequence[Said],
    truth: Truth,
    pairs: Sequence[Pairs],
    num_matched: Tensor,
    num_others: Tensor,
) -> tuple[Tensor, Tensor]:
    """Localisation of every layer, and the distillation of the last one's distributions to those before, summed."""
    local = [localisation_loss(shifts, said, truth, own, num_matched) for said, own in zip(layers, pairs, strict=True)]
    distilled = [
        distillation_loss(said, layers[-1], truth, own, num_matched, num_others)
        for said, own in zip(layers[:-1], pairs[:-1], strict=True)
    ]
    return torch.stack(local).sum(), torch.stack(distilled).sum() if distilled else local[0] * 0


@torch.no_grad()
def _overlap(boxes: Tensor, truth: Truth, pairs: Pairs) -> Tensor:
    """The IoU of paired queries, (M,)."""
    said, true = boxes[pairs.image, pairs.query].float(), truth.boxes[pairs.target]
    return box_ops.iou(box_ops.cxcywh_to_xyxy(said), box_ops.cxcywh_to_xyxy(true))
