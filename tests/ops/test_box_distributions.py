"""Against transformers' D-FINE."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.loss.loss_d_fine import DFineLoss, bbox2distance
from transformers.loss.loss_d_fine import weighting_function as weighting
from transformers.models.d_fine.modeling_d_fine import DFineIntegral, distance2bbox

from vitrail.ops import box_distributions
from vitrail.ops.box_distributions import Distribution, Said, Shifts
from vitrail.ops.boxes import cxcywh_to_xyxy
from vitrail.ops.matching import Pairs
from vitrail.ops.set_losses import Truth

SHIFTS = [Shifts(32, 0.5, 4.0), Shifts(16, 0.25, 8.0), Shifts(4, 1.0, 2.0)]
B, Q, K = 2, 7, 3
COUNTS = (3, 1)


def boxes(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 4) * 0.4 + 0.3


@pytest.mark.parametrize("shifts", SHIFTS)
def test_shifts_are_theirs(shifts: Shifts) -> None:
    theirs = weighting(shifts.intervals, torch.tensor([shifts.reach]), shifts.scale)
    torch.testing.assert_close(torch.tensor(shifts.values()), theirs)
    assert len(shifts.values()) == shifts.intervals + 1


@pytest.mark.parametrize("shifts", SHIFTS)
def test_expected_shifts_and_boxes_are_theirs(shifts: Shifts) -> None:
    logits, start = torch.randn(B, Q, 4, shifts.intervals + 1), boxes(B, Q)
    project = weighting(shifts.intervals, torch.tensor([shifts.reach]), shifts.scale)
    expected = DFineIntegral(SimpleNamespace(max_num_bins=shifts.intervals))(logits.flatten(2), project)
    found = shifts.expected(logits)
    torch.testing.assert_close(found, expected)
    found, expected = shifts.boxes(start, found), distance2bbox(start, expected, shifts.scale)
    right = (expected[..., 2:] > 0).all(dim=-1)
    assert right.float().mean() > 0.5
    torch.testing.assert_close(found[right], expected[right])
    assert (found[..., 2:] > 0).all()


@pytest.mark.parametrize("shifts", SHIFTS)
def test_the_shifts_around_true_sides_are_theirs(shifts: Shifts) -> None:
    start, true = boxes(200), torch.rand(200, 4) * 0.6 + 0.01
    lower, share = shifts.between(start, true)
    index, right, left = bbox2distance(
        start, cxcywh_to_xyxy(true), shifts.intervals, shifts.scale, torch.tensor([shifts.reach])
    )
    torch.testing.assert_close(lower.flatten(), index.long())
    torch.testing.assert_close(share.flatten(), right, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(1 - share.flatten(), left, atol=1e-5, rtol=1e-4)
    values = torch.tensor(shifts.values())
    wanted = values[lower] * (1 - share) + values[lower + 1] * share
    near = ((lower > 0) & (lower < shifts.intervals - 1)).all(dim=1)
    assert near.any()
    torch.testing.assert_close(shifts.boxes(start, wanted)[near], true[near], atol=1e-5, rtol=1e-4)


def layers(shifts: Shifts, start: torch.Tensor) -> list[Said]:
    made = []
    for _ in range(3):
        distribution = Distribution((2 * torch.randn(B, Q, 4, shifts.intervals + 1)).requires_grad_(), start)
        made.append(Said(distribution, boxes(B, Q), torch.rand(B, Q)))
    return made


def drawn(shifts: Shifts) -> tuple[list[Said], Truth, list[Pairs], list[tuple[torch.Tensor, torch.Tensor]]]:
    truth = Truth(torch.randint(K, (sum(COUNTS),)), boxes(sum(COUNTS)), COUNTS)
    start, said = boxes(B, Q), []
    said, pairs, theirs = layers(shifts, start), [], []
    for _ in said:
        order = [torch.randperm(Q)[:count] for count in COUNTS]
        image = torch.repeat_interleave(torch.arange(B), torch.tensor(COUNTS))
        pairs.append(Pairs(image, torch.cat(order), torch.arange(sum(COUNTS))))
        theirs.append([(each, torch.arange(len(each))) for each in order])
    return said, truth, pairs, theirs


@pytest.mark.parametrize("shifts", SHIFTS)
def test_localisation_and_distillation_are_theirs(shifts: Shifts) -> None:
    said, truth, pairs, indices = drawn(shifts)
    reference = SimpleNamespace(
        max_num_bins=shifts.intervals,
        reg_scale=shifts.scale,
        up=torch.tensor([shifts.reach]),
        _get_source_permutation_idx=lambda own: DFineLoss._get_source_permutation_idx(None, own),
        unimodal_distribution_focal_loss=lambda *a, **k: DFineLoss.unimodal_distribution_focal_loss(None, *a, **k),
    )
    targets = [{"boxes": each} for each in truth.boxes.split(COUNTS)]
    local, distilled = [], []
    for one, own in zip(said, indices, strict=True):
        outputs = {
            "pred_corners": one.distribution.logits.flatten(2),
            "ref_points": one.distribution.start,
            "pred_boxes": one.boxes,
            "teacher_corners": said[-1].distribution.logits.flatten(2),
            "teacher_logits": said[-1].scores.logit().unsqueeze(-1),
        }
        found = DFineLoss.loss_local(reference, outputs, targets, own, sum(COUNTS))
        local.append(found["loss_fgl"])
        distilled.append(found["loss_ddf"])
    assert distilled[-1].detach() == 0
    matched = torch.tensor(sum(COUNTS))
    mine = box_distributions.losses(shifts, said, truth, pairs, matched, B * Q - matched)
    parameters = [one.distribution.logits for one in said]
    for ours, theirs in zip(mine, (sum(local), sum(distilled)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        gradients = (
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in (ours, theirs)
        )
        for own, other in zip(*gradients, strict=True):
            if own is None or other is None:
                assert own is None or not own.any()
                assert other is None or not other.any()
            else:
                torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-4)


def test_nothing_to_find_gives_finite_losses() -> None:
    shifts = SHIFTS[0]
    nothing = torch.zeros(0, dtype=torch.int64)
    truth, pairs = Truth(nothing, torch.zeros(0, 4), (0, 0)), Pairs(nothing, nothing, nothing)
    made = layers(shifts, boxes(B, Q))
    local, distilled = box_distributions.losses(shifts, made, truth, [pairs] * 3, torch.tensor(1), torch.tensor(13))
    assert local.detach() == 0
    assert distilled.isfinite()
