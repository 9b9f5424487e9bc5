from __future__ import annotations

import functools
import itertools
from types import SimpleNamespace

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou
from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss
from transformers.loss.loss_deimv2 import Deimv2Loss
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss, HungarianMatcher
from transformers.loss.loss_rt_detr import RTDetrLoss

from vitrail.ops.matching import CostConfig, assign
from vitrail.ops.set_losses import (
    FocalRule,
    MatchabilityRule,
    SoftmaxRule,
    Truth,
    VarifocalRule,
    match,
    matched_losses,
    weighed,
)

K, Q, LAYERS = 5, 9, 3
COUNTS = (3, 0, 4, 1)
CONFIG = SimpleNamespace(
    class_cost=1, bbox_cost=5, giou_cost=2, bbox_loss_coefficient=5, giou_loss_coefficient=2,
    num_labels=K, eos_coefficient=0.1, auxiliary_loss=True, decoder_layers=LAYERS, focal_alpha=0.25,
    two_stage=False, num_feature_levels=1,
)  # fmt: skip


def drawn(width):
    layers = [(torch.randn(len(COUNTS), Q, width), torch.rand(len(COUNTS), Q, 4) * 0.4 + 0.3) for _ in range(LAYERS)]
    truth = Truth(torch.randint(K, (sum(COUNTS),)), torch.rand(sum(COUNTS), 4) * 0.4 + 0.3, COUNTS)
    theirs = [
        {"class_labels": labels, "boxes": boxes}
        for labels, boxes in zip(truth.labels.split(COUNTS), truth.boxes.split(COUNTS), strict=True)
    ]
    return layers, truth, theirs


@pytest.mark.parametrize(
    ("rule", "reference"),
    [(SoftmaxRule(), ForObjectDetectionLoss), (FocalRule(), DeformableDetrForObjectDetectionLoss)],
)
def test_losses_of_all_layers_are_those_of_transformers(rule, reference):
    layers, truth, theirs = drawn(rule.num_outputs(K))
    own, _ = matched_losses(rule, layers, truth, CostConfig(), torch.tensor(sum(COUNTS)))
    logits, boxes = (torch.stack(part) for part in zip(*layers, strict=True))
    total, parts, _ = reference(logits[-1], theirs, "cpu", boxes[-1], CONFIG, logits, boxes)
    for name, their_name in (("label", "loss_ce"), ("l1", "loss_bbox"), ("giou", "loss_giou")):
        expected = sum(value for key, value in parts.items() if key.startswith(their_name))
        torch.testing.assert_close(own[name], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weighed(own, CostConfig()), total, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("rule", "reference", "name", "options"),
    [
        (VarifocalRule(), RTDetrLoss.loss_labels_vfl, "loss_vfl", {"alpha": 0.75, "gamma": 2.0}),
        (MatchabilityRule(), Deimv2Loss.loss_labels_mal, "loss_mal", {"mal_alpha": None, "gamma": 1.5}),
    ],
)
def test_losses_that_know_the_overlap_are_those_of_transformers(rule, reference, name, options):
    layers, truth, theirs = drawn(rule.num_outputs(K))
    own, (pairs,) = matched_losses(rule, layers[:1], truth, CostConfig(), torch.tensor(sum(COUNTS)))
    starts = torch.tensor(COUNTS).cumsum(0) - torch.tensor(COUNTS)
    indices = [(pairs.query[pairs.image == i], pairs.target[pairs.image == i] - starts[i]) for i in range(len(COUNTS))]
    places = functools.partial(RTDetrLoss._get_source_permutation_idx, None)
    loss = SimpleNamespace(num_classes=K, _get_source_permutation_idx=places, **options)
    outputs = {"logits": layers[0][0], "pred_boxes": layers[0][1]}
    torch.testing.assert_close(own["label"], reference(loss, outputs, theirs, indices, sum(COUNTS))[name])


@pytest.mark.parametrize(
    ("rule", "reference"),
    [(SoftmaxRule(), ForObjectDetectionLoss), (FocalRule(), DeformableDetrForObjectDetectionLoss)],
)
def test_losses_of_pieces_add_up_to_those_of_transformers(rule, reference):
    """Its criterion divides by the objects of all processes together."""
    layers, truth, theirs = drawn(rule.num_outputs(K))
    logits, boxes = (torch.stack(part) for part in zip(*layers, strict=True))
    expected, _, _ = reference(logits[-1], theirs, "cpu", boxes[-1], CONFIG, logits, boxes)
    total, start = 0, 0
    for images in (slice(0, 1), slice(1, 4)):
        counts = COUNTS[images]
        own = slice(start, start + sum(counts))
        piece = Truth(truth.labels[own], truth.boxes[own], counts)
        share = len(counts) / len(COUNTS)
        found, _ = matched_losses(
            rule, [(a[images], b[images]) for a, b in layers], piece, CostConfig(), torch.tensor(sum(COUNTS) * share)
        )
        total, start = total + share * weighed(found, CostConfig()), own.stop
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)


def test_the_matching_is_that_of_transformers():
    rule = SoftmaxRule()
    layers, truth, theirs = drawn(rule.num_outputs(K))
    logits, boxes = layers[0]
    (pairs,) = match(rule, [(logits, boxes)], truth, CostConfig())
    expected = HungarianMatcher(1, 5, 2)({"logits": logits, "pred_boxes": boxes}, theirs)
    start = 0
    for image, (queries, targets) in enumerate(expected):
        mine = pairs.image == image
        assert pairs.query[mine].tolist() == queries.tolist()
        assert (pairs.target[mine] - start).tolist() == targets.tolist()
        start += len(targets)


def test_more_objects_than_queries_leave_some_without_one():
    pairs = assign([torch.rand(2, 5), torch.rand(2, 1)])
    assert len(pairs.query) == 3
    assert pairs.target[pairs.image == 1].tolist() == [5]


def test_a_cost_that_is_no_number_is_taken_last():
    costs = torch.tensor([[float("nan"), 9.0], [1.0, float("inf")], [8.0, 7.0]])
    pairs = assign([costs])
    assert set(zip(pairs.query.tolist(), pairs.target.tolist(), strict=True)) == {(1, 0), (2, 1)}


@pytest.mark.parametrize("rule", [SoftmaxRule(), FocalRule()])
def test_images_without_objects_have_a_finite_loss_that_only_lowers_scores(rule):
    logits = torch.randn(2, Q, rule.num_outputs(K), requires_grad=True)
    boxes = torch.rand(2, Q, 4, requires_grad=True)
    none = Truth(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), (0, 0))
    losses, _ = matched_losses(rule, [(logits, boxes)], none, CostConfig(), torch.tensor(1))
    weighed(losses, CostConfig()).backward()
    assert boxes.grad.abs().sum() == 0
    with torch.no_grad():
        assert rule.scores(logits - 0.1 * logits.grad).sum() < rule.scores(logits).sum()


def test_repeated_objects_stand_beside_each_other():
    truth = Truth(torch.tensor([4, 1]), torch.rand(2, 4), (1, 1)).repeated(3)
    assert truth.labels.tolist() == [4, 4, 4, 1, 1, 1]
    assert truth.counts == (3, 3)


@pytest.mark.parametrize("rule", [SoftmaxRule(), FocalRule()])
def test_every_layer_is_matched_as_by_trying_all_pairings(rule):
    layers, truth, _ = drawn(rule.num_outputs(K))
    found = match(rule, layers, truth, CostConfig())
    starts = [0, *itertools.accumulate(COUNTS)]
    for (logits, boxes), pairs in zip(layers, found, strict=True):
        for image, count in enumerate(COUNTS):
            labels, true = (part[starts[image] : starts[image + 1]] for part in (truth.labels, truth.boxes))
            costs = torch.empty(Q, count)
            for q, n in itertools.product(range(Q), range(count)):
                own, other = (box_convert(b[None], "cxcywh", "xyxy") for b in (boxes[image, q], true[n]))
                overlap = generalized_box_iou(own, other)[0, 0]
                score = logits[image, q].softmax(-1)[labels[n]]
                if isinstance(rule, FocalRule):
                    p = logits[image, q, labels[n]].sigmoid()
                    label = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log() - 0.75 * p**2 * -(1 - p + 1e-12).log()
                else:
                    label = -score
                costs[q, n] = label + 5 * (boxes[image, q] - true[n]).abs().sum() - 2 * overlap
            best = min(
                itertools.permutations(range(Q), count),
                key=lambda picked: sum(costs[q, n] for n, q in enumerate(picked)),
            )
            mine = pairs.image == image
            chosen = dict(zip((pairs.target[mine] - starts[image]).tolist(), pairs.query[mine].tolist(), strict=True))
            assert chosen == dict(enumerate(best))


def test_costs_of_all_layers_reach_the_host_at_once(monkeypatch):
    layers, truth, _ = drawn(K)
    copies = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copies.append(self.shape) or cpu(self))
    match(FocalRule(), layers, truth, CostConfig())
    assert copies == [(LAYERS, len(COUNTS), Q, max(COUNTS))]  # and none is of a query and another image's object
