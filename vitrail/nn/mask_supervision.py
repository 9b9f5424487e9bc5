"""What the masks of a set predictor's queries learn, and what they count in its matching.

Shapes: B images, Q queries, D width, n objects of a batch, N the most of an image, P points, (h, w) grid of the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.nn.mask_head import MaskHead
from vitrail.ops import mask_points, matching
from vitrail.ops.mask_losses import mask_cross_entropy, mask_dice
from vitrail.ops.mask_matching import MaskWeights, mask_cost
from vitrail.ops.matching import Pairs


@config
class MaskLossConfig:
    """Args:
    in_matching: pairs of queries and objects cost what their masks differ, too (Li et al. 2023, Mask DINO).
    every_layer: the queries of every decoder layer learn masks (Mask2Former, Mask DINO); else those of the last alone.
    points: masks are compared at so many points, most of them where they are uncertain (Mask2Former); None: on their
        grid.
    """

    in_matching: bool = False
    every_layer: bool = False
    points: Annotated[int, Field(ge=4, le=1_000_000)] | None = None


class TrueOutlines(NamedTuple):
    """The masks of the objects to find, image after image."""

    masks: Tensor
    """bool (n, H, W)."""
    known: Tensor
    """bool (n,); what is not known is neither learned nor compared."""
    counts: tuple[int, ...]
    """Objects of each image."""


class MaskSupervision:
    """The masks of one batch.

    Args:
        pixels: their embeddings, B D' h w.
        weights: of the two losses, and of both in the matching; that of the class is not read.
        points: of each image, (B, candidates, 2), where masks are compared at points.
    """

    def __init__(
        self,
        head: MaskHead,
        pixels: Tensor,
        truth: TrueOutlines,
        weights: MaskWeights,
        config: MaskLossConfig,
        points: Tensor | None,
    ) -> None:
        self.head, self.pixels, self.truth, self.weights, self.config = head, pixels, truth, weights, config
        self._at = None if points is None else mask_points.at(pixels, points)
        if points is None:
            self._true = F.adaptive_avg_pool2d(truth.masks.float(), (pixels.shape[2], pixels.shape[3]))
        else:
            image = torch.repeat_interleave(torch.arange(len(points)), torch.tensor(truth.counts)).to(points.device)
            self._true = mask_points.at(truth.masks.float().unsqueeze(1), points[image]).squeeze(1)

    @torch.no_grad()
    def costs(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """What each pair of an image costs, (B, Q, N) of each layer's queries B Q D; none if masks do not count."""
        if not self.config.in_matching:
            return []
        seen = self.pixels.flatten(2) if self._at is None else self._at
        true, known = (
            matching.by_image(each, self.truth.counts) for each in (self._true.flatten(1), self.truth.known.float())
        )
        return [mask_cost((self.head.embedded(x) @ seen).float(), true, self.weights) * known[:, None] for x in layers]

    def losses(self, layers: Sequence[Tensor], pairs: Sequence[Pairs], num_objects: Tensor) -> dict[str, Tensor]:
        """``mask`` and ``dice``, weighted, of each layer's queries B Q D with their pairs, summed.

        Args:
            num_objects: what sums are divided by.
        """
        start = 0 if self.config.every_layer else len(layers) - 1
        found = [self._compared(x, own) for x, own in zip(layers[start:], pairs[start:], strict=True)]
        return {
            "mask": torch.stack([self.weights.mask * mask_cross_entropy(*each, num_objects) for each in found]).sum(),
            "dice": torch.stack([self.weights.dice * mask_dice(*each, num_objects) for each in found]).sum(),
        }

    def _compared(self, x: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Logits and shares of the matched queries whose outlines are known, (M, h, w) or (M, 1, P)."""
        image, query, target = (column[self.truth.known[pairs.target]] for column in pairs)
        true = self._true[target]
        if self._at is None:
            return self.head.chosen(x[image, query], self.pixels, image), true
        assert self.config.points is not None
        logits = (self.head.embedded(x) @ self._at)[image, query]
        places = mask_points.selected(logits, self.config.points)
        return logits.gather(1, places).unsqueeze(1), true.gather(1, places).unsqueeze(1)
