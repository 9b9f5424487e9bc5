"""Distances and neighbourhoods of features, against torchmetrics and plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from vitrail.ops import fidelity
from vitrail.ops.fidelity import (
    frechet_distance,
    kernel_distances,
    memorising,
    nearest_distances,
    neighbourhoods,
    polynomial_mmd,
)


def drawn(num: int, dim: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated features of unequal spread, off the origin."""
    return torch.randn(num, dim).double() @ torch.randn(dim, dim).double() + 3 + shift


class Features(nn.Module):
    """In place of torchmetrics' Inception: what is given are the features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def updated(metric, real, samples):
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(samples, real=False)
    return metric.compute()


def test_the_frechet_distance_is_torchmetrics_and_scipys():
    real, samples = drawn(90, 7), drawn(120, 7, 0.5)
    ours = frechet_distance(real, samples)
    one, other = (np.cov(each.numpy(), rowvar=False) for each in (real, samples))
    shift = (real.mean(0) - samples.mean(0)).square().sum().item()
    assert ours == pytest.approx(shift + np.trace(one + other - 2 * sqrtm(one @ other).real), rel=1e-6)
    assert ours == pytest.approx(float(updated(FrechetInceptionDistance(Features(7)), real, samples)), rel=1e-6)
    assert frechet_distance(real.float(), samples.float()) == pytest.approx(ours, rel=1e-4)


def test_few_pictures_of_many_features_lose_no_digits():
    real, samples = drawn(30, 4), drawn(25, 4, 1.0)
    turn = torch.linalg.qr(torch.randn(64, 4).double()).Q.T  # four directions among 64, which keeps the distance
    offset = torch.randn(64).double() * 100
    wide = frechet_distance(real @ turn + offset, samples @ turn + offset)
    assert wide == pytest.approx(frechet_distance(real, samples), rel=1e-9)


@pytest.mark.parametrize(("num", "dim"), [(50, 8), (9, 40)])
def test_a_set_is_at_no_distance_from_itself_in_any_order(num, dim):
    features = drawn(num, dim)
    shuffled = features[torch.randperm(num)]
    assert frechet_distance(features, shuffled) == pytest.approx(0, abs=1e-9 * float(features.var(0).sum()))
    found = neighbourhoods(features, shuffled)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 1


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save:UserWarning")
def test_the_kernel_distance_is_torchmetrics_and_its_formula():
    real, samples = drawn(40, 6), drawn(40, 6, 0.3)
    ours = polynomial_mmd(real, samples)
    mean, _ = updated(KernelInceptionDistance(Features(6), subsets=2, subset_size=40), real, samples)
    assert ours == pytest.approx(float(mean), rel=1e-6)
    others = drawn(31, 6)  # another number than of the real ones

    def kernel(x, y):
        return sum((float(a @ b) / 6 + 1) ** 3 for a in x for b in y)

    def own(x):
        return (kernel(x, x) - sum((float(a @ a) / 6 + 1) ** 3 for a in x)) / (len(x) * (len(x) - 1))

    expected = own(real) + own(others) - 2 * kernel(real, others) / (40 * 31)
    assert polynomial_mmd(real, others) == pytest.approx(expected, rel=1e-6)


def test_subsets_follow_their_key_and_have_the_distance_as_their_mean():
    real, samples = drawn(60, 5), drawn(60, 5, 1.0)
    found = kernel_distances(real, samples, key=3, subsets=60, size=30)
    assert found == kernel_distances(real, samples, key=3, subsets=60, size=30)
    assert found != kernel_distances(real, samples, key=4, subsets=60, size=30)
    whole = polynomial_mmd(real, samples)
    assert np.mean(found) == pytest.approx(whole, abs=4 * np.std(found) / 60**0.5)
    assert kernel_distances(real, samples, key=0, size=60) == [whole]


def naive(real, samples):
    """Precision, recall, density and coverage from all distances at once."""
    real, samples = real.numpy(), samples.numpy()

    def radii(x, k):
        return np.sort(cdist(x, x), axis=1)[:, k]  # the first is the row itself

    across = cdist(real, samples)
    within = across <= radii(real, 5)[:, None]
    return (
        (across <= radii(real, 3)[:, None]).any(axis=0).mean(),
        (across <= radii(samples, 3)).any(axis=1).mean(),
        within.sum(axis=0).mean() / 5,
        within.any(axis=1).mean(),
    )


@pytest.mark.parametrize("chunk", [2**24, 100, 1])
def test_neighbourhoods_are_naive_ones_however_they_are_chunked(monkeypatch, chunk):
    monkeypatch.setattr(fidelity, "CHUNK", chunk)
    real, samples = torch.randn(50, 4).double(), 0.7 * torch.randn(65, 4).double() + 0.8
    found = neighbourhoods(real, samples)
    assert found == pytest.approx(naive(real, samples), rel=1e-12)
    assert 0 < found.recall < found.precision < 1
    assert neighbourhoods(real[torch.randperm(50)], samples[torch.randperm(65)]) == pytest.approx(found, rel=1e-12)


def test_samples_of_one_mode_are_precise_and_cover_little():
    real = torch.cat([torch.randn(40, 6), torch.randn(40, 6) + 30])
    found = neighbourhoods(real, 0.3 * torch.randn(80, 6))
    assert found.precision > 0.9
    assert found.recall <= 0.5
    assert found.coverage <= 0.5


def test_copies_are_nearer_to_training_pictures_than_unseen_ones():
    train, unseen, new = torch.randn(300, 8), torch.randn(200, 8), torch.randn(200, 8)
    np.testing.assert_allclose(
        nearest_distances(new, train), cdist(new.double().numpy(), train.double().numpy()).min(axis=1), rtol=1e-9
    )
    copied = memorising(train[:200] + 1e-3 * torch.randn(200, 8), unseen, train)
    assert copied.share == 1
    assert copied.ratio < 0.01
    honest = memorising(new, unseen, train)
    assert honest.share < 0.15
    assert honest.ratio == pytest.approx(1, abs=0.1)
    assert all(math.isnan(each) for each in memorising(new, train[:200], train)), "nothing is unseen"
    assert memorising(unseen, unseen, train) == pytest.approx((0.05, 1))


def test_one_picture_has_no_distribution():
    one, some = torch.randn(1, 3), torch.randn(5, 3)
    assert all(math.isnan(each) for each in (frechet_distance(one, some), polynomial_mmd(some, one)))
    assert all(math.isnan(each) for each in neighbourhoods(some, one))
