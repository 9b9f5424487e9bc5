from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from vitrail.data.transforms.geometry import identities
from vitrail.metrics.segmentation import Metrics, border, boundary_scores

K = 4
NAMES = ("ground", "ant", "bee", "cat")


def maps(images=5, height=13, width=17):
    true = torch.randint(K, (images, height, width))
    logits = torch.randn(images, K, height, width) + 2 * torch.nn.functional.one_hot(true, K).movedim(-1, 1)
    true[torch.rand(true.shape) < 0.1] = 255
    return logits, true


def test_overlaps_are_those_of_torchmetrics_whatever_the_batches():
    logits, true = maps()
    family = Metrics(NAMES)
    family.update(logits[:2].argmax(1), true[:2])
    family.update(family.reduce(logits[2:], identities(logits[2:])), true[2:])
    found = family.compute()
    said = logits.argmax(1)
    jaccard = MulticlassJaccardIndex(K, ignore_index=255, average="macro")(said, true)
    accuracy = MulticlassAccuracy(K, ignore_index=255, average="micro")(said, true)
    recall = MulticlassAccuracy(K, ignore_index=255, average="macro")(said, true)
    known = true != 255
    dice = DiceScore(K, average="macro", input_format="index", aggregation_level="global")
    assert found["miou"] == pytest.approx(jaccard.item(), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(accuracy.item(), abs=1e-6)
    assert found["class_accuracy"] == pytest.approx(recall.item(), abs=1e-6)
    assert found["dice"] == pytest.approx(dice(said[known][None, None], true[known][None, None]).item(), abs=1e-6)
    rows = family.details()["classes"]
    assert [row["name"] for row in rows] == list(NAMES)
    assert sum(row["support"] for row in rows) == known.sum()


def test_a_class_that_nobody_met_or_said_does_not_count():
    family = Metrics((*NAMES, "never"))
    logits, true = maps()
    few = Metrics(NAMES)
    few.update(logits.argmax(1), true)
    family.update(logits.argmax(1), true)
    assert family.compute()["miou"] == pytest.approx(few.compute()["miou"])
    assert math.isnan(family.details()["classes"][-1]["iou"])


def brute(said, true, near):
    """Every pair of border pixels."""
    scores = []
    for label in sorted(set(said.ravel()) | set(true.ravel())):
        own, other = (np.argwhere(border(map_ == label)) for map_ in (said, true))
        if not len(own) and not len(other):
            continue
        if not len(own) or not len(other):
            scores.append(0.0)
            continue
        distance = np.sqrt(((own[:, None] - other) ** 2).sum(-1))
        precision, recall = (distance.min(1) <= near).mean(), (distance.min(0) <= near).mean()
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


def test_borders_are_compared_by_their_distance():
    rng = np.random.default_rng(0)
    true = np.kron(rng.integers(0, 3, (5, 6)), np.ones((30, 40), dtype=int))
    said = np.roll(true, 3, axis=1)
    said[40:60, 50:90] = 2
    near = 0.0075 * np.hypot(*true.shape)
    found = boundary_scores(said, true)
    np.testing.assert_allclose(found, brute(said, true, near))
    assert 0 < np.mean(found) < 1
    np.testing.assert_allclose(boundary_scores(true, true), 1)


def test_there_is_no_border_at_the_edge_or_where_nobody_knows():
    mask = np.zeros((6, 6), dtype=bool)
    mask[:, :3] = True
    assert border(mask).sum() == 6
    assert border(mask)[:, 2].all()
    true = mask.astype(int)
    true[:, 2:4] = 255
    assert boundary_scores(mask.astype(int), true) == []
