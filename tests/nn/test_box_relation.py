from __future__ import annotations

import math

import pytest
import torch

from vitrail.nn.box_relation import BoxRelation, pairwise
from vitrail.nn.detr_decoder import DecoderConfig, DetrDecoder, Queries
from vitrail.nn.levels import Level


def test_relations_are_those_of_the_paper():
    """Equation 4, pair by pair."""
    boxes = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.1
    found = pairwise(boxes)
    for image in range(2):
        for i, (x, y, w, h) in enumerate(boxes[image].tolist()):
            for j, (other_x, other_y, other_w, other_h) in enumerate(boxes[image].tolist()):
                expected = (
                    math.log(abs(x - other_x) / w + 1), math.log(abs(y - other_y) / h + 1),
                    math.log(w / other_w), math.log(h / other_h),
                )  # fmt: skip
                assert found[image, i, j].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_relation_is_the_same_at_any_scale():
    """Ratios of lengths alone decide."""
    boxes, relation = torch.rand(1, 6, 4) * 0.4 + 0.1, BoxRelation(3)
    torch.testing.assert_close(relation(boxes), relation(boxes / 2), atol=1e-4, rtol=1e-4)


def decode(relation, *, mask=None, std=0.0):
    torch.manual_seed(0)
    decoder = DetrDecoder(DecoderConfig(dim=16, depth=2, heads=2, mlp_dim=32, num_queries=6, relation=relation)).eval()
    if decoder.relation is not None:
        torch.nn.init.normal_(decoder.relation.linear.weight, std=std)
        torch.nn.init.zeros_(decoder.relation.linear.bias)
    generator = torch.Generator().manual_seed(1)
    queries = Queries(
        torch.randn(2, 6, 16, generator=generator), torch.rand(2, 6, 4, generator=generator) * 0.5 + 0.2, mask
    )
    axis = (torch.arange(4) + 0.5).expand(2, -1) / 4
    level = Level(torch.randn(2, 16, 4, 4, generator=generator), axis, axis, torch.full((2, 2), 0.25), None)
    return decoder, queries, [level]


def test_groups_stay_apart():
    """What one group of queries is does not change the other's outputs."""
    mask = torch.block_diag(torch.ones(2, 2), torch.ones(4, 4)).bool()[None, None]
    decoder, queries, levels = decode(relation=True, mask=mask, std=1.0)
    other = queries._replace(content=queries.content.clone(), boxes=queries.boxes.clone())
    other.content[:, 2:], other.boxes[:, 2:] = 1.0, 0.5
    for (x, boxes, *_), (changed, changed_boxes, *_) in zip(
        decoder(queries, levels), decoder(other, levels), strict=True
    ):
        torch.testing.assert_close(x[:, :2], changed[:, :2])
        torch.testing.assert_close(boxes[:, :2], changed_boxes[:, :2])
        assert not torch.allclose(x[:, 2:], changed[:, 2:])


def test_the_relation_matters():
    """Other boxes of the others change a query."""
    decoder, queries, levels = decode(relation=True, std=3.0)
    with torch.no_grad():
        found = decoder(queries, levels)[0][0]
        decoder.relation.linear.weight.zero_()
        assert not torch.allclose(found, decoder(queries, levels)[0][0], atol=1e-4)


def test_boxes_of_no_size_give_finite_biases_and_gradients():
    boxes = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.2, 0.5, 0.1, 0.0], [0.2, 0.5, 0.1, 0.3]]], requires_grad=True)
    found = pairwise(boxes)
    found.sum().backward()
    assert found.isfinite().all()
    assert boxes.grad.isfinite().all()
