"""Against scikit-learn, torchmetrics and plain loops, with ties, absent classes and soft targets."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from vitrail.metrics.classification import Metrics, label_rank


def measured(logits: torch.Tensor, targets: torch.Tensor) -> tuple[dict, dict]:
    metrics = Metrics([f"class {i}" for i in range(logits.shape[1])])
    for part in torch.arange(len(logits)).split(7):
        metrics.update(logits[part], targets[part])
    return metrics.compute(), metrics.details()


@pytest.fixture(params=range(4))
def sample(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 6 classes, mostly right; class 2 is never a label, class 5 neither label nor prediction."""
    random = torch.Generator().manual_seed(request.param)
    labels = torch.tensor([0, 1, 3, 4])[torch.randint(4, (60,), generator=random)]
    logits = torch.randn(60, 6, generator=random) * 3
    logits[torch.arange(60), labels] += 2
    logits[:, 5] = -20
    return logits, labels


def test_the_scalars_agree_with_scikit_learn(sample):
    logits, labels = sample
    metrics, _ = measured(logits, labels)
    predictions, probabilities = logits.argmax(1), logits.double().softmax(1).numpy()
    assert metrics["top1"] == pytest.approx(reference.accuracy_score(labels, predictions))
    assert metrics["top5"] == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=5, labels=range(6)))
    assert metrics["loss"] == pytest.approx(reference.log_loss(labels, probabilities, labels=range(6)))
    for name in ("precision", "recall", "f1"):
        score = getattr(reference, f"{name}_score")
        assert metrics[name] == pytest.approx(score(labels, predictions, average="macro", zero_division=0))


def test_ranking_agrees_with_scikit_learn(sample):
    logits, labels = sample
    metrics, _ = measured(logits.round(), labels)  # with ties
    probabilities, classes = logits.round().double().softmax(1).numpy(), labels.unique().tolist()
    one_hot = np.eye(6)[labels]
    for name, reference_of in (("auroc", "roc_auc_score"), ("average_precision", "average_precision_score")):
        each = [getattr(reference, reference_of)(one_hot[:, k], probabilities[:, k]) for k in classes]
        assert metrics[name] == pytest.approx(np.mean(each))


def test_ranking_of_two_classes_agrees_with_torchmetrics():
    from torchmetrics.functional.classification import binary_auroc, multiclass_average_precision

    logits, labels = torch.randn(50, 2), torch.randint(2, (50,))
    metrics, _ = measured(logits, labels)
    probabilities = logits.softmax(1)
    assert metrics["auroc"] == pytest.approx(binary_auroc(probabilities[:, 1], labels).item(), abs=1e-6)
    expected = multiclass_average_precision(probabilities, labels, num_classes=2).item()
    assert metrics["average_precision"] == pytest.approx(expected, abs=1e-6)


def test_the_rows_of_every_class_agree_with_scikit_learn(sample):
    logits, labels = sample
    _, details = measured(logits, labels)
    predictions = logits.argmax(1)
    columns = reference.precision_recall_fscore_support(labels, predictions, labels=range(6), zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in details["classes"]] == pytest.approx(list(expected))
    np.testing.assert_array_equal(
        details["confusion"], reference.confusion_matrix(labels, predictions, labels=range(6))
    )


def test_calibration_agrees_with_a_loop_over_the_bins(sample):
    logits, labels = sample
    metrics, details = measured(logits, labels)
    confidence, prediction = logits.double().softmax(1).max(1)
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        assert details["reliability"]["count"][i] == inside.sum()
        if inside.any():
            gap = (prediction == labels)[inside].double().mean() - confidence[inside].mean()
            expected += inside.double().mean().item() * abs(gap.item())
    assert metrics["ece"] == pytest.approx(expected)
    assert metrics["ece"] > 0


def test_calibration_agrees_with_torchmetrics(sample):
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = sample
    expected = multiclass_calibration_error(logits.double().softmax(1), labels, 6, n_bins=15)
    assert measured(logits, labels)[0]["ece"] == pytest.approx(expected.item(), abs=1e-6)


def test_among_equal_logits_the_lower_class_comes_first():
    logits = torch.randint(3, (200, 7)).float()
    labels = torch.randint(7, (200,))
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels.tolist(), strict=True)]
    assert label_rank(logits, labels).tolist() == expected
    metrics, details = measured(logits, labels)
    assert metrics["top1"] == pytest.approx(np.mean(np.array(expected) < 1))
    assert metrics["top5"] == pytest.approx(np.mean(np.array(expected) < 5))
    assert np.trace(details["confusion"]) / 200 == pytest.approx(metrics["top1"])


def test_one_hot_soft_targets_measure_the_same_as_labels(sample):
    logits, labels = sample
    soft = torch.nn.functional.one_hot(labels, 6).float()
    assert measured(logits, soft)[0] == pytest.approx(measured(logits, labels)[0])


def test_the_loss_of_soft_targets_is_the_cross_entropy_between_distributions(sample):
    logits, _ = sample
    soft = torch.rand(60, 6).softmax(1)
    expected = -(soft.double() * logits.double().log_softmax(1)).sum(1).mean()
    assert measured(logits, soft)[0]["loss"] == pytest.approx(expected.item())


def test_a_single_class_is_always_right():
    metrics, details = measured(torch.randn(5, 1), torch.zeros(5, dtype=torch.int64))
    assert np.isnan(metrics.pop("auroc")), "there is nothing to tell the class from"
    perfect = {"top1": 1, "top5": 1, "precision": 1, "recall": 1, "f1": 1, "average_precision": 1}
    assert metrics == {"loss": 0, "ece": 0, **perfect}
    assert details["confusion"].tolist() == [[5]]


def test_fewer_than_five_classes_have_a_full_top5():
    assert measured(torch.randn(20, 3), torch.randint(3, (20,)))[0]["top5"] == 1


def test_outputs_that_are_not_numbers_are_never_right():
    metrics, _ = measured(torch.full((8, 6), float("nan")), torch.zeros(8, dtype=torch.int64))
    assert metrics["top1"] == metrics["top5"] == 0
    assert np.isnan(metrics["loss"])
    assert np.isnan(metrics["auroc"])
