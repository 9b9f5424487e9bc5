"""Matching of masks, layer by layer, against every pairing and the costs of Mask2Former."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from transformers.models.mask2former.modeling_mask2former import (
    pair_wise_dice_loss,
    pair_wise_sigmoid_cross_entropy_loss,
)

from vitrail.ops.mask_matching import MaskWeights, TrueMasks, match
from vitrail.ops.set_losses import SoftmaxRule

K, Q, COUNTS = 4, 5, (2, 0, 3, 1)
WEIGHTS = MaskWeights(2.0, 5.0, 5.0)


def test_pairs_are_the_cheapest_of_all():
    rule, size = SoftmaxRule(), (6, 7)
    layers = [(torch.randn(len(COUNTS), Q, K + 1), 3 * torch.randn(len(COUNTS), Q, *size)) for _ in range(3)]
    masks = torch.rand(sum(COUNTS), 12, 14).round()
    truth = TrueMasks(torch.randint(K, (sum(COUNTS),)), masks, COUNTS)
    starts = [0, *itertools.accumulate(COUNTS)]
    found = match(rule, layers, truth, WEIGHTS)
    assert len(found) == len(layers)
    for (logits, predicted), pairs in zip(layers, found, strict=True):
        for image, count in enumerate(COUNTS):
            mine = pairs.image == image
            assert mine.sum() == count
            if not count:
                continue
            own = slice(starts[image], starts[image + 1])
            flat = predicted[image].flatten(1), F.avg_pool2d(masks[own], 2).flatten(1)
            costs = -2 * logits[image].softmax(-1)[:, truth.labels[own]]
            costs += 5 * pair_wise_sigmoid_cross_entropy_loss(*flat) + 5 * pair_wise_dice_loss(*flat)
            total = lambda picked, costs=costs: sum(costs[q, n].item() for n, q in enumerate(picked))  # noqa: E731
            best = min(itertools.permutations(range(Q), count), key=total)
            chosen = dict(zip((pairs.target[mine] - starts[image]).tolist(), pairs.query[mine].tolist(), strict=True))
            assert chosen == dict(enumerate(best))


def test_no_segment_in_any_image():
    nothing = TrueMasks(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8), (0, 0))
    (pairs,) = match(SoftmaxRule(), [(torch.randn(2, Q, K + 1), torch.randn(2, Q, 4, 4))], nothing, WEIGHTS)
    assert len(pairs.query) == 0
