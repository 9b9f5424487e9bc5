"""Against scikit-learn, on random logits with ties and classes without examples."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from vitrail.metrics.multilabel import Metrics, average_precision, precision_recall_curve


def measured(logits: torch.Tensor, targets: torch.Tensor) -> tuple[dict, dict]:
    metrics = Metrics([f"class {i}" for i in range(logits.shape[1])])
    for part in torch.arange(len(logits)).split(7):
        metrics.update(logits[part], targets[part])
    return metrics.compute(), metrics.details()


@pytest.fixture(params=[False, True], ids=["distinct", "ties"])
def sample(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    targets = (torch.rand(80, 5, generator=random) > 0.6).float()
    logits = torch.randn(80, 5, generator=random) + targets
    return (logits * 2).round() if request.param else logits, targets


def test_the_scalars_agree_with_scikit_learn(sample):
    logits, targets = sample
    metrics, _ = measured(logits, targets)
    chosen = (logits > 0).long()
    assert metrics["map"] == pytest.approx(reference.average_precision_score(targets, logits, average="macro"))
    assert metrics["auroc"] == pytest.approx(reference.roc_auc_score(targets, logits, average="macro"))
    assert metrics["exact"] == pytest.approx(reference.accuracy_score(targets, chosen))
    assert metrics["f1_micro"] == pytest.approx(reference.f1_score(targets, chosen, average="micro"))
    for name in ("precision", "recall", "f1"):
        score = getattr(reference, f"{name}_score")
        assert metrics[name] == pytest.approx(score(targets, chosen, average="macro"))
    p = logits.double().sigmoid()
    assert metrics["loss"] == pytest.approx(-torch.where(targets > 0, p, 1 - p).log().mean().item())


def test_the_rows_of_every_class_agree_with_scikit_learn(sample):
    logits, targets = sample
    rows = measured(logits, targets)[1]["classes"]
    columns = reference.precision_recall_fscore_support(targets, (logits > 0).long(), average=None)
    for name, expected in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in rows] == pytest.approx(list(expected))
    expected = reference.average_precision_score(targets, logits, average=None)
    assert [row["ap"] for row in rows] == pytest.approx(list(expected))


def test_the_curve_agrees_with_scikit_learn(sample):
    logits, targets = sample
    precision, recall = precision_recall_curve(logits[:, 0], targets[:, 0] > 0)
    expected = reference.precision_recall_curve(targets[:, 0], logits[:, 0])
    np.testing.assert_allclose(precision.numpy()[::-1], expected[0][:-1])
    np.testing.assert_allclose(recall.numpy()[::-1], expected[1][:-1])


def test_a_class_without_examples_has_no_average_precision_and_is_left_out_of_the_mean(sample):
    logits, targets = sample
    targets = targets.clone()
    targets[:, 2] = 0
    metrics, details = measured(logits, targets)
    others = [0, 1, 3, 4]
    assert np.isnan(details["classes"][2]["ap"])
    assert metrics["map"] == pytest.approx(reference.average_precision_score(targets[:, others], logits[:, others]))


def test_a_class_that_every_image_has():
    assert average_precision(torch.randn(30), torch.ones(30, dtype=torch.bool)) == pytest.approx(1)


def test_one_class_alone():
    logits, targets = torch.randn(30, 1), (torch.rand(30, 1) > 0.5).float()
    assert measured(logits, targets)[0]["map"] == pytest.approx(
        reference.average_precision_score(targets[:, 0], logits[:, 0])
    )
