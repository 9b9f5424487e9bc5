from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from vitrail.metrics.representation import NEIGHBOURS, TEMPERATURE, Metrics, effective_rank, feature_std


def measured(features: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    metrics = Metrics()
    for part in torch.arange(len(features)).split(17):
        metrics.update(features[part], labels[part])
    return metrics.compute()


@pytest.mark.parametrize("dim", [8, 100])
def test_random_directions_spread_evenly(dim):
    assert feature_std(torch.randn(5000, dim) * torch.rand(5000, 1)) == pytest.approx(1, abs=0.02)


def test_collapsed_features_do_not_spread():
    point = torch.randn(1, 64)
    assert feature_std(point.expand(50, -1)) == pytest.approx(0, abs=1e-12)
    assert feature_std(point * torch.rand(50, 1).add(0.1)) == pytest.approx(0, abs=1e-6)  # they differ by length alone
    assert 0 < feature_std(point + 0.01 * torch.randn(50, 64)) < 0.05
    assert math.isnan(feature_std(point))


def test_the_spread_is_its_formula():
    features = np.random.default_rng().normal(size=(40, 12)) + 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert feature_std(torch.from_numpy(features)) == pytest.approx(np.sqrt(12) * unit.std(axis=0, ddof=1).mean())


@pytest.mark.parametrize(
    "spectrum", [np.ones(5), np.array([1.0]), 2.0 ** -np.arange(9), np.random.default_rng().random(20)]
)
def test_the_rank_of_a_known_spectrum(spectrum):
    rng = np.random.default_rng()
    left, right = (np.linalg.qr(rng.normal(size=(size, len(spectrum))))[0] for size in (60, 30))
    features = torch.from_numpy(7 * left @ np.diag(spectrum) @ right.T)
    expected = np.exp(scipy.stats.entropy(spectrum / spectrum.sum()))
    assert effective_rank(features) == pytest.approx(expected, rel=1e-3)


def test_neighbours_are_scikit_learns_leave_one_out():
    labels = torch.arange(90) % 6
    features = torch.randn(6, 10)[labels] + 1.2 * torch.randn(90, 10)
    reference = KNeighborsClassifier(
        NEIGHBOURS, weights=lambda distance: np.exp((1 - distance) / TEMPERATURE), metric="cosine", algorithm="brute"
    )
    said = cross_val_predict(reference, features.double().numpy(), labels.numpy(), cv=LeaveOneOut())
    found = measured(features, labels)
    assert 0.3 < found["knn"] < 1
    assert found["knn"] == pytest.approx((said == labels.numpy()).mean(), abs=1e-9)
    assert found["feature_std"] == pytest.approx(feature_std(features))
    assert found["rank"] == pytest.approx(effective_rank(features))


def test_without_labels_there_are_no_neighbours():
    features = torch.randn(30, 5)
    for labels in (torch.full((30,), -1), torch.randn(30, 2), torch.rand(30)):
        found = measured(features, labels)
        assert math.isnan(found["knn"])
        assert found["rank"] > 1
    assert Metrics().details() == {}


def test_few_images_vote_as_far_as_they_go():
    labels = torch.tensor([0, 0, 1, 1])
    features = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1.0], [0.1, 0.9]]) + 0.01 * torch.rand(4, 2)
    assert measured(features, labels)["knn"] == 1
