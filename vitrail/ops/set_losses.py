"""Losses of a set of predicted objects (Carion et al. 2020, DETR, equation 2; Zhu et al. 2021, Deformable DETR).

Shapes: B images, Q queries, K classes, n objects of the batch. Boxes are ``cxcywh`` as shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops import boxes, matching
from vitrail.ops.matching import CostConfig, Pairs


class Truth(NamedTuple):
    """The objects of a batch, image after image."""

    labels: Tensor
    """(n,) int64."""
    boxes: Tensor
    """(n, 4) cxcywh."""
    counts: tuple[int, ...]
    """Objects in each image."""

    def repeated(self, times: int) -> Truth:
        """Each object several times."""
        return Truth(
            self.labels.repeat_interleave(times),
            self.boxes.repeat_interleave(times, dim=0),
            tuple(count * times for count in self.counts),
        )

    def for_groups(self, groups: int) -> Truth:
        """The objects of each image for several groups of its queries, as images of their own, one behind the other."""
        labels, boxes = (
            torch.cat([own.repeat(groups, *[1] * (own.ndim - 1)) for own in values.split(self.counts)])
            for values in (self.labels, self.boxes)
        )
        return Truth(labels, boxes, tuple(count for count in self.counts for _ in range(groups)))


class ClassRule(Protocol):
    """How a query's logits represent its class, or no object."""

    def num_outputs(self, num_classes: int) -> int:
        """Width of the logits."""

    def scores(self, logits: Tensor) -> Tensor:
        """(..., width) → (..., K) in [0, 1]."""

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The cost of matching query q to object n of the same image: (B, Q, width), (B, N) → (B, Q, N)."""

    def loss(self, logits: Tensor, labels: Tensor, overlap: Tensor | None = None) -> Tensor:
        """The summed loss of (B, Q, width) for labels int64 (B, Q), where −1 is no object.

        Args:
            overlap: (B, Q), the IoU of queries with their objects; None: it is not known, and taken for 1.
        """

    def divisor(self, num_objects: Tensor, num_queries: Tensor | int) -> Tensor:
        """What that sum is divided by, where each object has a query."""


class SoftmaxRule(NamedTuple):
    """One distribution over the classes and, last, "no object" (DETR).

    Attributes:
        no_object: weight of the queries without an object, which are most.
    """

    no_object: float = 0.1

    def num_outputs(self, num_classes: int) -> int:
        return num_classes + 1

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)[..., :-1]

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -_of_objects(logits.softmax(dim=-1), labels)

    def loss(self, logits: Tensor, labels: Tensor, overlap: Tensor | None = None) -> Tensor:
        none = logits.shape[-1] - 1
        weight = torch.ones(none + 1, device=logits.device)
        weight[none] = self.no_object
        labels = torch.where(labels < 0, none, labels)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight, reduction="sum")

    def divisor(self, num_objects: Tensor, num_queries: Tensor | int) -> Tensor:
        return num_objects + self.no_object * (num_queries - num_objects)


@dataclass(frozen=True)
class FocalRule:
    """One sigmoid per class, easy examples weighed down (Lin et al. 2017, equation 5).

    Attributes:
        alpha: weight of positives; negatives have 1 − α.
        gamma: the exponent that weighs easy ones down.
    """

    alpha: float = 0.25
    gamma: float = 2.0

    def num_outputs(self, num_classes: int) -> int:
        return num_classes

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = _of_objects(logits, labels)
        positive = self._weighed(logits, torch.ones_like(logits))
        return positive - self._weighed(logits, torch.zeros_like(logits))

    def loss(self, logits: Tensor, labels: Tensor, overlap: Tensor | None = None) -> Tensor:
        return self._weighed(logits, _one_hot(labels, logits)).sum()

    def divisor(self, num_objects: Tensor, num_queries: Tensor | int) -> Tensor:
        return num_objects

    def _weighed(self, logits: Tensor, targets: Tensor) -> Tensor:
        missed = (logits.sigmoid() - targets).abs()
        weight = (2 * self.alpha - 1) * targets + 1 - self.alpha
        return weight * missed**self.gamma * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


@dataclass(frozen=True)
class VarifocalRule(FocalRule):
    """One sigmoid per class that learns the overlap of the query with its object (Zhang et al. 2021, VarifocalNet,
    equation 2; with the weights of Zhao et al. 2024, RT-DETR). Matching is as of the focal loss.

    Attributes:
        negative: weight of the negatives, whose easy ones are weighed down.
    """

    negative: float = 0.75

    def loss(self, logits: Tensor, labels: Tensor, overlap: Tensor | None = None) -> Tensor:
        positive = _one_hot(labels, logits)
        targets = positive if overlap is None else positive * overlap.unsqueeze(-1)
        weight = targets + self.negative * logits.detach().sigmoid() ** self.gamma * (1 - positive)
        return F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="sum")


@dataclass(frozen=True)
class MatchabilityRule(FocalRule):
    """One sigmoid per class that learns a power of the overlap, so that queries which hardly match learn as well (Huang
    et al. 2025, DEIM, equation 3). Matching is as of the focal loss.

    Attributes:
        power: of the overlap, and of the negatives' scores, which weigh them.
    """

    power: float = 1.5

    def loss(self, logits: Tensor, labels: Tensor, overlap: Tensor | None = None) -> Tensor:
        positive = _one_hot(labels, logits)
        targets = positive if overlap is None else positive * overlap.unsqueeze(-1) ** self.power
        weight = positive + logits.detach().sigmoid() ** self.power * (1 - positive)
        return F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="sum")


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """(B, Q) → (B, Q, K), zeros where there is no object."""
    return (labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)).to(logits.dtype)


@torch.no_grad()
def match(
    rule: ClassRule,
    layers: Sequence[tuple[Tensor, Tensor]],
    truth: Truth,
    weights: CostConfig,
    further: Sequence[Tensor] = (),
) -> list[Pairs]:
    """The cheapest pairing of queries and objects in each image, layer by layer.

    Args:
        layers: logits (B, Q, width) and boxes (B, Q, 4) of each layer.
        further: what pairs cost beside these, (B, Q, N) of each layer, if anything.
    """
    labels, true = (matching.by_image(values, truth.counts) for values in (truth.labels, truth.boxes))
    costs = [
        matching.cost(rule.cost(logits.float(), labels), predicted.float(), true, weights)
        for logits, predicted in layers
    ]
    if further:
        costs = [own + more for own, more in zip(costs, further, strict=True)]
    return matching.assign_layers(costs, truth.counts)


def set_losses(
    rule: ClassRule,
    logits: Tensor,
    predicted: Tensor,
    truth: Truth,
    pairs: Pairs,
    num_objects: Tensor,
    num_queries: Tensor | int,
) -> dict[str, Tensor]:
    """``label``, ``l1`` and ``giou`` of paired queries, in float32; unpaired ones learn "no object".

    Args:
        logits: (B, Q, width). predicted: boxes (B, Q, 4).
        num_objects, num_queries: what sums are divided by.
    """
    labels = torch.full(logits.shape[:2], -1, device=logits.device)
    labels[pairs.image, pairs.query] = truth.labels[pairs.target]
    said, true = predicted[pairs.image, pairs.query].float(), truth.boxes[pairs.target]
    corners = boxes.cxcywh_to_xyxy(said), boxes.cxcywh_to_xyxy(true)
    overlap = torch.zeros(logits.shape[:2], device=logits.device)
    overlap[pairs.image, pairs.query] = boxes.iou(*corners).detach()
    return {
        "label": rule.loss(logits.float(), labels, overlap) / rule.divisor(num_objects, num_queries),
        "l1": (said - true).abs().sum() / num_objects,
        "giou": (1 - boxes.generalised_iou(*corners)).sum() / num_objects,
    }


def matched_losses(
    rule: ClassRule,
    layers: Sequence[tuple[Tensor, Tensor]],
    truth: Truth,
    weights: CostConfig,
    num_objects: Tensor,
    further: Sequence[Tensor] = (),
) -> tuple[dict[str, Tensor], list[Pairs]]:
    """The losses of all decoder layers, each with its own matching, summed; and each layer's pairs.

    Args:
        layers: logits (B, Q, width) and boxes (B, Q, 4) of each layer.
        num_objects: what sums are divided by: of the step's objects, these images' share.
        further: as of :func:`match`.
    """
    total: dict[str, Tensor] = {}
    found = match(rule, layers, truth, weights, further)
    for (logits, predicted), pairs in zip(layers, found, strict=True):
        num_queries = logits.shape[0] * logits.shape[1]
        for name, value in set_losses(rule, logits, predicted, truth, pairs, num_objects, num_queries).items():
            total[name] = total[name] + value if name in total else value
    return total, found


def _of_objects(values: Tensor, labels: Tensor) -> Tensor:
    """Of every query's (B, Q, K) values those of the objects' classes (B, N): (B, Q, N)."""
    return values.gather(2, labels.unsqueeze(1).expand(-1, values.shape[1], -1))


def weighed(losses: dict[str, Tensor], weights: CostConfig) -> Tensor:
    """The sum to minimise, with the weights that the matching has too."""
    return weights.label * losses["label"] + weights.l1 * losses["l1"] + weights.giou * losses["giou"]


RULES: dict[str, ClassRule] = {
    "focal": FocalRule(),
    "varifocal": VarifocalRule(),
    "matchability": MatchabilityRule(),
    "softmax": SoftmaxRule(),
}
"""By the name that configs have."""
