"""The head that is fitted before the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from tiny import tiny_run, write_data

from vitrail.pooled import PooledTask
from vitrail.tasks import classification, multilabel, regression
from vitrail.train import head_fit
from vitrail.train.head_fit import solve
from vitrail.train.loop import fit
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=8, channels=1, patch_size=4, dim=16, depth=1, heads=2, mlp_dim=32)
NUM = 60


def vectors() -> torch.Tensor:
    """Features of very different scales, not centred."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(NUM, 16)) * np.geomspace(0.1, 10, 16) + rng.normal(size=16)
    return torch.tensor(found, dtype=torch.float32)


def standardised(x: torch.Tensor) -> np.ndarray:
    array = x.double().numpy()
    return np.asarray((array - array.mean(0)) / array.std(0))


def test_classes_as_scikit_learn_fits_them() -> None:
    x, labels = vectors(), torch.arange(NUM) % 3
    x[:, 0] += labels * 0.1
    task = classification.Task(classification.Config(model=MODEL, classes=("a", "b", "c")))
    before, after = solve(task, x, labels, penalty=0.02)
    # scikit-learn minimises C times the summed loss plus half the squared weights
    reference = LogisticRegression(C=1 / (0.02 * NUM), tol=1e-8, max_iter=1000).fit(standardised(x), labels)
    with torch.no_grad():
        found = task.forward_head(x).softmax(1).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(standardised(x)), atol=2e-3)
    assert before == pytest.approx(np.log(3), abs=1e-5)
    assert after < before


def test_numbers_as_ridge_regression_fits_them() -> None:
    x = vectors()
    y = torch.stack((x[:, 0] * 30 + x[:, 5] + 100, x[:, 3] - x[:, 15]), dim=1)
    scale = {"mean": tuple(y.mean(0).tolist()), "std": tuple(y.std(0).tolist())}
    task = regression.Task(regression.Config(model=MODEL, targets=("u", "v"), **scale))
    solve(task, x, y, penalty=0.1)
    targets = ((y - y.mean(0)) / y.std(0)).double().numpy()
    # the mean over N images and two numbers: (2 N) (penalty / 2) in Ridge's units
    reference = Ridge(alpha=0.1 * NUM).fit(standardised(x), targets).predict(standardised(x))
    with torch.no_grad():
        found = task.forward_head(x)
    expected = torch.tensor(reference) * y.std(0) + y.mean(0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-2)


def test_several_labels_each_as_scikit_learn_fits_it() -> None:
    x = vectors()
    labels = torch.stack((x[:, 0] > x[:, 0].mean(), torch.arange(NUM) % 2 == 0), dim=1).float()
    task = multilabel.Task(multilabel.Config(model=MODEL, classes=("a", "b")))
    solve(task, x, labels, penalty=0.02)
    with torch.no_grad():
        found = task.forward_head(x).sigmoid().numpy()
    for column in range(2):  # the criterion is the mean over both
        reference = LogisticRegression(C=1 / (2 * 0.02 * NUM), tol=1e-8, max_iter=1000)
        reference.fit(standardised(x), labels[:, column])
        np.testing.assert_allclose(found[:, column], reference.predict_proba(standardised(x))[:, 1], atol=2e-3)


@pytest.mark.parametrize("norm", [True, False])
def test_without_bias_features_are_only_scaled(norm: bool) -> None:
    x, labels = vectors(), torch.arange(NUM) % 3
    head: Any = {"bias": False, "norm": norm}
    task = classification.Task(classification.Config(model=MODEL, classes=("a", "b", "c"), head=head))
    before, after = solve(task, x, labels)
    with torch.no_grad():
        assert float(task.criterion(task.forward_head(x), labels)) == pytest.approx(after, rel=1e-3)
    assert after < before


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    run = tiny_run(write_data(folder / "data"), epochs=1)
    fit(run, folder / "run")
    return folder


def test_a_fresh_head_is_fitted_first_and_a_trained_one_is_kept(base: Path, capsys: Any) -> None:
    two = write_data(base / "two", num_classes=2)
    start: Any = {"init": str(base / "run"), "fit_head": True, "epochs": 1}
    frozen = tiny_run(two, freeze=("backbone",), optimizer={"lr": 1e-9}, release="last", **start)
    assert fit(frozen, base / "fitted").best is not None
    err = capsys.readouterr().err
    assert "fit_head: features of 48 images" in err
    assert sorted(path.name for path in (base / "fitted" / "weights").iterdir()) == ["last.safetensors"]
    fit(tiny_run(base / "data", **start), base / "kept")
    assert "fit_head: the head of the weights is kept" in capsys.readouterr().err
    head: Any = {"hidden": 8}
    fit(tiny_run(two, task_options={"head": head}, **start), base / "deep")
    assert "fit_head: a head of several layers is not fitted first" in capsys.readouterr().err


def test_an_unreadable_image_costs_a_run_that_skips_it_no_more_than_the_fitting(
    base: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.errors import UserError

    def broken(*_: object) -> tuple[float, float]:
        raise UserError("an image is broken")

    monkeypatch.setattr(head_fit, "_fit", broken)
    run = tiny_run(base / "two", init=str(base / "run"), fit_head=True, epochs=1)
    with pytest.raises(UserError, match="an image is broken"):
        fit(run, base / "stopped")
    loader = replace(run.data.loader, on_bad="skip")
    assert fit(replace(run, data=replace(run.data, loader=loader)), base / "skipped").exit_code == 0
    assert "the head stays as it is, since an image is broken" in capsys.readouterr().err


def test_every_task_for_whole_images_has_a_criterion() -> None:
    assert all(issubclass(module.Task, PooledTask) for module in (classification, multilabel, regression))
