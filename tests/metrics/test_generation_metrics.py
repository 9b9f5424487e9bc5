from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vitrail.metrics import mode_of
from vitrail.metrics.generation import COMPARED, FeaturePair, Metrics
from vitrail.ops.fidelity import frechet_distance, memorising, neighbourhoods, polynomial_mmd

N, D = 60, 5
NAMES = ("ant", "bee", "cat")


def features():
    """Of real pictures, samples and training pictures."""
    return torch.randn(N, D), torch.randn(N, D) + 0.5, torch.randn(3 * N, D)


def collected(metrics, real, samples, scores=None, labels=None, size=7):
    labels = torch.full((N,), -1) if labels is None else labels
    scores = [None] * N if scores is None else scores
    drawn = [FeaturePair(*row) for row in zip(real, samples, scores, strict=True)]
    for start in range(0, N, size):
        metrics.update(drawn[start : start + size], labels[start : start + size])
    return metrics


@pytest.mark.parametrize("size", [7, N])
def test_each_number_is_that_of_all_pictures_together(size):
    real, samples, train = features()
    metrics = collected(Metrics((), train), real, samples, size=size)
    found = metrics.compute()
    assert set(found) == set(Metrics.scalars)
    assert found["fd"] == frechet_distance(real, samples)
    assert found["kid"] == polynomial_mmd(real, samples)
    near = neighbourhoods(real, samples)
    assert [found[name] for name in near._fields] == list(near)
    assert (found["memorised"], found["nearest_ratio"]) == memorising(samples, real, train)
    assert found["num_pictures"] == N
    assert math.isnan(found["accuracy"])


def test_the_floor_takes_as_many_training_pictures():
    real, samples, train = features()
    metrics = collected(Metrics((), train, key=1), real, samples)
    found, floor = metrics.compute(), metrics.details()["floor"]
    assert set(floor) == set(COMPARED)
    assert floor["fd"] == found["fd_floor"] < found["fd"]
    biased = frechet_distance(real, train)  # more pictures are nearer
    assert biased < found["fd_floor"]
    assert collected(Metrics((), train, key=1), real, samples).compute() == pytest.approx(found, nan_ok=True)
    few = collected(Metrics((), train[: N - 1]), real, samples).compute()
    assert math.isnan(few["fd_floor"])
    assert few["nearest_ratio"] > 0
    assert math.isnan(collected(Metrics(()), real, samples).compute()["memorised"])


def test_the_accuracy_of_samples_in_all_and_per_class():
    real, samples, _ = features()
    labels = torch.arange(N) % 2  # no cat was asked for
    said = torch.where(torch.arange(N) < 30, labels, 2)
    metrics = collected(Metrics(NAMES), real, samples, torch.eye(3)[said], labels)
    assert metrics.compute()["accuracy"] == 0.5
    assert metrics.details()["per_class"] == [
        {"name": "ant", "count": 30, "accuracy": 0.5}, {"name": "bee", "count": 30, "accuracy": 0.5},
    ]  # fmt: skip


def test_one_image_is_undefined_and_no_error():
    metrics = Metrics((), torch.randn(3, D))
    metrics.update([FeaturePair(torch.randn(D), torch.randn(D))], torch.tensor([-1]))
    found = metrics.compute()
    assert found.pop("num_pictures") == 1
    assert np.isnan(list(found.values())).all()


def test_distances_are_better_when_small():
    assert mode_of("fd") == mode_of("kid") == "min"
    assert mode_of("recall") == "max"
