"""The training criterion of set prediction (Carion et al. 2020, DETR), apart from the model and the matching.

Shapes: B images, Q queries, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from vitrail.ops.matching import CostConfig, Pairs
from vitrail.ops.set_losses import ClassRule, Truth, matched_losses, set_losses, weighed

Layers: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Logits (B, Q, width) and boxes (B, Q, 4) of each decoder layer."""


class SetCriterion(NamedTuple):
    """Losses of queries against the objects of their images.

    ``num_objects`` is what sums are divided by: of the objects of a step, as many as fall to the images at hand.

    Attributes:
        rule: what logits mean.
        weights: of the parts of the loss, and of the costs of the matching.
    """

    rule: ClassRule
    weights: CostConfig

    def matched(self, layers: Layers, truth: Truth, num_objects: Tensor) -> tuple[dict[str, Tensor], Pairs]:
        """``label``, ``l1`` and ``giou``, each layer matched on its own, and the pairs of the last layer."""
        return matched_losses(self.rule, layers, truth, self.weights, num_objects)

    def total(self, layers: Layers, truth: Truth, num_objects: Tensor) -> Tensor:
        """The weighted sum of what :meth:`matched` returns."""
        return weighed(self.matched(layers, truth, num_objects)[0], self.weights)

    def denoised(self, layers: Layers, truth: Truth, pairs: Pairs, num_queries: Tensor) -> Tensor:
        """The weighted loss of noised queries, whose objects are known; queries of no object are left out.

        Args:
            num_queries: those with an object, which sums are divided by.
        """
        if not len(pairs.query):
            return layers[0][0].sum() * 0
        rows = torch.arange(len(pairs.query), device=pairs.query.device)
        own = Pairs(torch.zeros_like(rows), rows, pairs.target)
        total = []
        for logits, boxes in layers:
            picked = logits[pairs.image, pairs.query][None], boxes[pairs.image, pairs.query][None]
            losses = set_losses(self.rule, *picked, truth, own, num_queries, num_queries)
            total.append(weighed(losses, self.weights))
        return torch.stack(total).sum()

    def losses(self, parts: Mapping[str, Tensor], further: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``loss``, the weighted sum of ``parts`` plus all of ``further``, with both."""
        own = weighed(dict(parts), self.weights)
        return {"loss": torch.stack([own, *further.values()]).sum(), **parts, **further}
