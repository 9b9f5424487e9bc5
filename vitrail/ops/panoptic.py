"""From queries with masks to segments that share out the pixels (Cheng et al. 2022, MaskFormer, section 3.4).

Shapes: Q queries, K classes, n segments, (h, w) the grid of the masks, (H, W) pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry


class MergeConfig(NamedTuple):
    """Which queries and pixels become segments.

    Attributes:
        score: the probability of its class from which a query is used.
        mask: the probability from which a pixel is of a query's mask.
        overlap: the share of its mask that a query keeps beside the others; below, it is dropped.
    """

    score: float
    mask: float
    overlap: float


class Found(NamedTuple):
    """The segments of one image."""

    numbers: Tensor
    """int32 (H, W): 0 for none, else from 1 on which segment."""
    labels: Tensor
    """(n,) int64."""
    scores: Tensor
    """(n,) float32, in [0, 1]."""


def merged(
    logits: Tensor, masks: Tensor, geometry: ImageGeometry, things: Sequence[bool], config: MergeConfig
) -> Found:
    """Each pixel of the image goes to the query whose probability of class and mask together is the highest.

    Queries of one class of stuff are one segment, whose score is the highest of them.

    Args:
        logits: (Q, K + 1), the last one is "no object".
        masks: logits (Q, h, w), of the input.
        geometry: where the input lies in the image; beyond it there is no segment.
        things: of each class, whether each query is a segment of its own.
    """
    scores, labels = logits.float().softmax(dim=-1).max(dim=-1)
    keep = (labels < logits.shape[-1] - 1) & (scores >= config.score)
    scores, labels = scores[keep], labels[keep]
    if not len(labels):
        return Found(torch.zeros(geometry.original, dtype=torch.int32), labels, scores)
    shared = _shared(masks[keep].float(), scores, geometry, config.mask)
    number_of, number_of_stuff = torch.zeros(len(scores) + 1, dtype=torch.int32), dict[int, int]()
    found: list[tuple[int, float]] = []
    for query in scores.argsort(descending=True, stable=True).tolist():
        label, score = int(labels[query]), float(scores[query])
        if shared.kept[query] == 0 or shared.taken[query] < config.overlap * shared.whole[query]:
            continue
        if things[label] or label not in number_of_stuff:
            found.append((label, score))
            number_of_stuff[label] = len(found)
        number_of[query + 1] = number_of_stuff[label]
    own = torch.tensor([f[0] for f in found], dtype=torch.int64), torch.tensor([f[1] for f in found])
    return Found(number_of[shared.owner], *own)


class _Shared(NamedTuple):
    """The pixels shared out among n queries, and how many of each query's are…"""

    owner: Tensor
    """int32 (H, W): from 1 on the query that a pixel goes to, 0 where that one's mask is below the threshold."""
    kept: Tensor
    """(n,): those of ``owner``."""
    taken: Tensor
    """(n,): with those below the threshold."""
    whole: Tensor
    """(n,): of its mask, to whichever query they go."""


def _shared(masks: Tensor, scores: Tensor, geometry: ImageGeometry, threshold: float) -> _Shared:
    shared = _Shared(torch.zeros(geometry.original, dtype=torch.int32), *torch.zeros(3, len(scores), dtype=torch.int64))
    places, seen = torch.arange(len(scores))[:, None, None], ~geometry.unseen()
    for rows, band in geometry.bands(masks):
        probabilities = band.sigmoid()
        full = (probabilities >= threshold) & seen[rows]
        own = ((probabilities * scores[:, None, None]).argmax(dim=0) == places) & seen[rows]
        shared.owner[rows] = ((own & full) * (places + 1)).sum(dim=0)
        for count, pixels in zip(shared[1:], (own & full, own, full), strict=True):
            count += pixels.sum(dim=(1, 2))
    return shared
