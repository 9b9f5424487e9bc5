"""Groups of queries in one batch, and what the decoder makes of each.

Shapes: B images, Q queries, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.nn.box_distribution import DistributionConfig
from vitrail.nn.detr_decoder import Decoded, Queries
from vitrail.ops import box_distributions
from vitrail.ops.box_distributions import Distribution, Said
from vitrail.ops.matching import Pairs
from vitrail.ops.set_criterion import Layers
from vitrail.ops.set_losses import ClassRule, Truth


class Layer(NamedTuple):
    """A decoder layer's logits, boxes and distributions of some queries."""

    logits: Tensor
    """B Q width."""
    boxes: Tensor
    """B Q 4."""
    distribution: Distribution | None

    def rows(self, rows: slice) -> Layer:
        """A range of queries."""
        found = self.distribution
        if found is not None:
            found = Distribution(found.logits[:, rows], found.start[:, rows])
        return Layer(self.logits[:, rows], self.boxes[:, rows], found)

    def chosen(self, image: Tensor, query: Tensor) -> Layer:
        """Some queries, as those of one image."""
        found = None if self.distribution is None else self.distribution.of(image, query)
        return Layer(self.logits[image, query][None], self.boxes[image, query][None], found)


class GroupLayers:
    """What every decoder layer makes of each group.

    Args:
        decoded: of all groups, in their order.
        head: the number of a layer and its queries B Q D → logits.
    """

    def __init__(
        self, decoded: Sequence[Decoded], head: Callable[[int, Tensor], Tensor], groups: Mapping[str, Queries]
    ) -> None:
        self._layers = [Layer(head(each.layer, each.content), each.boxes, each.distribution) for each in decoded]
        self._ranges, start = dict[str, slice](), 0
        for name, group in groups.items():
            self._ranges[name] = slice(start, start + group.content.shape[1])
            start += group.content.shape[1]

    def of(self, group: str) -> list[Layer]:
        """Those of a group."""
        return [layer.rows(self._ranges[group]) for layer in self._layers]


def scored(layers: Sequence[Layer]) -> Layers:
    """Logits and boxes alone."""
    return [(layer.logits, layer.boxes) for layer in layers]


def distribution_losses(
    config: DistributionConfig,
    layers: Sequence[Layer],
    rule: ClassRule,
    truth: Truth,
    pairs: Sequence[Pairs],
    num_matched: Tensor,
    num_others: Tensor,
) -> tuple[Tensor, Tensor]:
    """The weighted losses of the layers that have distributions: localisation, and distillation from the last one.

    Args:
        pairs: of each layer.
        num_matched, num_others: queries with an object and without; of a step's, these images' share.
    """
    said, own = list[Said](), list[Pairs]()
    for layer, matched in zip(layers, pairs, strict=True):
        if layer.distribution is not None:
            scores = rule.scores(layer.logits.detach().float()).amax(dim=-1)
            said.append(Said(layer.distribution, layer.boxes, scores))
            own.append(matched)
    local, distilled = box_distributions.losses(config.shifts, said, truth, own, num_matched, num_others)
    return config.localisation * local, config.distillation * distilled


def joined(groups: list[Queries]) -> Queries:
    """Several groups of queries in one batch, none of which attends to another."""
    content, boxes = (torch.cat([getattr(group, name) for group in groups], dim=1) for name in ("content", "boxes"))
    if len(groups) == 1:
        return groups[0]
    sees = torch.zeros(len(content), 1, content.shape[1], content.shape[1], dtype=torch.bool, device=content.device)
    start = 0
    for group in groups:
        end = start + group.content.shape[1]
        sees[:, :, start:end, start:end] = True if group.mask is None else group.mask
        start = end
    return Queries(content, boxes, sees)
