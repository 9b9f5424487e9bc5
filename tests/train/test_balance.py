"""Classes that count alike: weights against PyTorch's, the sampler against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tiny import tiny_run
from torch.nn import functional as F

from vitrail.config import override
from vitrail.data.loading.sampler import Sampler
from vitrail.errors import UserError
from vitrail.ops.losses import balanced_positive_weights, balanced_weights, binary_cross_entropy, cross_entropy
from vitrail.train.loop import fit


def test_balanced_weights_are_those_of_scikit_learn():
    labels = torch.randint(4, (60,))
    labels[:4] = torch.arange(4)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels.numpy())
    torch.testing.assert_close(balanced_weights(torch.bincount(labels)), torch.from_numpy(expected))
    assert balanced_weights(torch.tensor([3, 0, 1])).tolist() == pytest.approx([4 / 6, 0, 2])


def test_positives_count_as_much_as_negatives():
    targets = torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]])
    assert balanced_positive_weights(targets).tolist() == pytest.approx([3, 1, 1, 1 / 3])


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_that_of_pytorch(soft, smoothing):
    logits, weights = torch.randn(8, 5), torch.rand(5)
    targets = torch.rand(8, 5).softmax(1) if soft else torch.randint(5, (8,))
    expected = F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="sum") / 8
    torch.testing.assert_close(cross_entropy(logits, targets, smoothing, weights), expected)
    same = cross_entropy(logits, targets, smoothing)
    torch.testing.assert_close(same, F.cross_entropy(logits, targets, label_smoothing=smoothing))


def test_weighted_sigmoids():
    logits, weights, labels = torch.randn(8, 5), torch.rand(5), torch.randint(5, (8,))
    each = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 5).float(), reduction="none").mean(1)
    torch.testing.assert_close(
        binary_cross_entropy(logits, labels, class_weights=weights), (weights[labels] * each).mean()
    )
    present = torch.rand(8, 5).round()
    expected = F.binary_cross_entropy_with_logits(logits, present, pos_weight=weights)
    torch.testing.assert_close(binary_cross_entropy(logits, present, positive_weights=weights), expected)


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_sampler_shows_every_class_equally_often(repeats):
    strata = np.array([0] * 70 + [1] * 20 + [2] * 10)
    sampler = Sampler(num_samples=100, batch_size=10, train=True, seed=3, repeats=repeats, strata=strata)
    orders = [sampler.order(epoch)[0] for epoch in (0, 1)]
    for order in orders:
        shown = np.bincount(order, minlength=100)
        rough = 0 if repeats == 1 else 10  # then an epoch is a random half of it
        assert sorted(np.bincount(strata[order]).tolist()) == pytest.approx([33, 33, 34], abs=rough)
        if repeats == 1:
            for label in range(3):
                assert np.ptp(shown[strata == label]) <= 1, "images of a class are shown alike"
    assert (orders[0] != orders[1]).any()
    assert (orders[0] == sampler.order(0)[0]).all()
    assert len(set(strata[orders[0][:10]].tolist())) > 1, "classes are mixed"


@pytest.mark.parametrize("setting", ["task_options.class_weights", "data.loader.balanced"])
def test_trainings_balance(setting, bands, tmp_path, capsys):
    run = override(tiny_run(bands, epochs=1), {setting: "balanced" if "weights" in setting else True})
    assert fit(run, tmp_path / "run").exit_code == 0
    if "loader" in setting:
        assert "balanced sampler: 3 classes of" in capsys.readouterr().err


def test_what_cannot_be_balanced_is_named(bands, tmp_path):
    with pytest.raises(UserError, match="2 class_weights for 3 classes"):
        fit(tiny_run(bands, task_options={"class_weights": [1, 2]}), tmp_path / "run")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (16, 8, 8), np.uint8)
    np.savez(tmp_path / "several.npz", images=images, labels=rng.integers(0, 2, (16, 3)))
    run = override(tiny_run(tmp_path / "several.npz", task="multilabel"), {"data.loader.balanced": True})
    with pytest.raises(UserError, match="one class an image and the data has 'multilabel' labels"):
        fit(run, tmp_path / "run")
    weighted = override(run, {"data.loader.balanced": False, "task_options.class_weights": "balanced", "epochs": 1})
    assert fit(weighted, tmp_path / "run").exit_code == 0
    np.savez(tmp_path / "numbers.npz", images=images, labels=rng.random(16))
    numbers = tiny_run(tmp_path / "numbers.npz", task="regression", task_options={"class_weights": "balanced"})
    with pytest.raises(UserError, match="'regression' has no class weights: leave balance out"):
        fit(numbers, tmp_path / "numbers")
