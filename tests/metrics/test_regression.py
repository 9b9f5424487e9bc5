"""Against scikit-learn, on one and several random target columns."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from vitrail.metrics.regression import Metrics


def measured(values: torch.Tensor, targets: torch.Tensor) -> tuple[dict, list]:
    metrics = Metrics([f"target {i}" for i in range(values.shape[1])])
    for part in torch.arange(len(values)).split(7):
        metrics.update(values[part], targets[part])
    return metrics.compute(), metrics.details()["targets"]


@pytest.mark.parametrize("num_targets", [1, 3])
def test_agrees_with_scikit_learn(num_targets):
    targets = torch.randn(50, num_targets) * 10 + 40
    values = targets + torch.randn(50, num_targets) * 3
    metrics, rows = measured(values, targets)
    every = {"multioutput": "raw_values"}
    expected = {
        "mae": reference.mean_absolute_error(targets, values, **every),
        "rmse": reference.root_mean_squared_error(targets, values, **every),
        "r2": reference.r2_score(targets, values, **every),
    }
    for name, columns in expected.items():
        assert [row[name] for row in rows] == pytest.approx(list(columns), rel=1e-5)
        assert metrics[name] == pytest.approx(columns.mean(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(reference.mean_squared_error(targets, values), rel=1e-5)


def test_a_large_offset_costs_no_precision():
    targets = torch.randn(500, 1) + 10_000
    values = targets + 0.5
    assert measured(values, targets)[0]["mae"] == pytest.approx(0.5, abs=1e-3)
    assert measured(values, targets)[0]["r2"] == pytest.approx(
        reference.r2_score(targets.double(), values.double()), abs=1e-6
    )


def test_a_target_that_never_varies_has_no_r2_and_is_left_out_of_the_mean():
    targets = torch.randn(20, 2)
    targets[:, 1] = 4
    metrics, rows = measured(torch.randn(20, 2), targets)
    assert np.isnan(rows[1]["r2"])
    assert metrics["r2"] == pytest.approx(rows[0]["r2"])


def test_one_image_has_errors_but_no_r2():
    metrics, _ = measured(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    assert metrics["mae"] == metrics["rmse"] == 2
    assert np.isnan(metrics["r2"])


def test_the_loss_is_measured_on_the_given_scale():
    targets, values, scale = torch.randn(20, 3), torch.randn(20, 3), (0.5, 2.0, 10.0)
    metrics = Metrics(["a", "b", "c"], scale)
    metrics.update(values, targets)
    divisor = torch.tensor(scale)
    assert metrics.compute()["loss"] == pytest.approx(
        reference.mean_squared_error(targets / divisor, values / divisor), rel=1e-5
    )
