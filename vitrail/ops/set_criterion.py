"""The training criterion of set prediction (Carion et al. 2020, DETR), apart from the model and the matching.

Shapes: B images, Q queries, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from vitrail.ops.matching import CostConfig, Pairs
from vitrail.ops.set_losses import ClassRule, Truth, matched_losses, set_losses, weighed

Layers: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Logits (B, Q, width) and boxes (B, Q, 4) of each decoder layer."""


class Further(Protocol):
    """What queries predict of their objects beside class and box. Layers are their queries, B Q D each."""

    def costs(self, layers: Sequence[Tensor]) -> Sequence[Tensor]:
        """What pairs cost beside class and box in the matching, (B, Q, N) of each layer, or nothing."""

    def losses(self, layers: Sequence[Tensor], pairs: Sequence[Pairs], num_objects: Tensor) -> dict[str, Tensor]:
        """Weighted losses of matched queries."""


class SetCriterion(NamedTuple):
    """Losses of queries against the objects of their images.

    ``num_objects`` is what sums are divided by: of the objects of a step, as many as fall to the images at hand.

    Attributes:
        rule: what logits mean.
        weights: of the parts of the loss, and of the costs of the matching.
    """

    rule: ClassRule
    weights: CostConfig

    def matched(
        self, layers: Layers, truth: Truth, num_objects: Tensor, further: Sequence[Tensor] = ()
    ) -> tuple[dict[str, Tensor], list[Pairs]]:
        """``label``, ``l1`` and ``giou``, each layer matched on its own, and the pairs of each layer.

        Args:
            further: costs of pairs beside those of classes and boxes, (B, Q, N) of each layer.
        """
        return matched_losses(self.rule, layers, truth, self.weights, num_objects, further)

    def total(self, layers: Layers, truth: Truth, num_objects: Tensor) -> Tensor:
        """The weighted sum of what :meth:`matched` returns."""
        return weighed(self.matched(layers, truth, num_objects)[0], self.weights)

    def denoised(self, layers: Layers, truth: Truth, pairs: Pairs, num_objects: Tensor, num_queries: Tensor) -> Tensor:
        """The weighted loss of queries whose objects are known, or that are known to have none.

        Args:
            layers: of these queries alone, as those of one image: logits (1, Q, width) and boxes (1, Q, 4).
            pairs: those with an object.
            num_objects, num_queries: how many have an object, and how many there are, which sums are divided by.
        """
        if not len(pairs.query):
            return layers[0][0].sum() * 0
        each = [set_losses(self.rule, *layer, truth, pairs, num_objects, num_queries) for layer in layers]
        return torch.stack([weighed(losses, self.weights) for losses in each]).sum()

    def losses(self, parts: Mapping[str, Tensor], further: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``loss``, the weighted sum of ``parts`` plus all of ``further``, with both."""
        own = weighed(dict(parts), self.weights)
        return {"loss": torch.stack([own, *further.values()]).sum(), **parts, **further}
