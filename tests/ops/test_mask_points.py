from __future__ import annotations

import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from vitrail.ops import mask_points


def test_values_at_points_are_those_of_mask2former() -> None:
    values, points = torch.randn(2, 5, 7, 9), torch.rand(2, 11, 2)
    torch.testing.assert_close(mask_points.at(values, points), sample_point(values, points, align_corners=False))


def test_points_lie_in_the_image() -> None:
    region = torch.tensor([[0.0, 0, 8, 4], [2, 1, 6, 3]])
    ends = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).expand(2, 2, 2)
    assert mask_points.within(ends, region, (4, 8)).tolist() == [[[0, 0], [1, 1]], [[0.25, 0.25], [0.75, 0.75]]]


def test_three_quarters_of_the_points_are_the_least_certain() -> None:
    logits = torch.randn(5, mask_points.num_candidates(8))
    assert logits.shape[1] == 26
    chosen = mask_points.selected(logits, 8)
    for own, places in zip(logits, chosen, strict=True):
        assert sorted(own[:24].abs().argsort()[:6].tolist()) == sorted(places[:6].tolist())
        assert places[6:].tolist() == [24, 25]
