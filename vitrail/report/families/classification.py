"""One label per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.metrics.classification import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation


def columns(evaluation: Evaluation) -> Columns:
    """True and predicted class, confidence, and cross-entropy."""
    import torch

    from vitrail.metrics.classification import cross_entropy, hard_labels, predicted

    logits, targets = torch.from_numpy(evaluation.outputs).double(), torch.from_numpy(evaluation.targets)
    names = evaluation.family.names
    return {
        "true": [names[i] for i in hard_labels(targets).tolist()],
        "predicted": [names[i] for i in predicted(logits).tolist()],
        "confidence": logits.softmax(dim=1).amax(dim=1).tolist(),
        "loss": cross_entropy(logits, targets).tolist(),
    }


def caption(evaluation: Evaluation, row: int) -> Caption:
    """The two classes and the confidence."""
    logits, target = evaluation.outputs[row].astype(np.float64), evaluation.targets[row]
    true, said = int(target if target.ndim == 0 else target.argmax()), int(logits.argmax())
    confidence = np.exp(logits[said] - np.logaddexp.reduce(logits))
    names = evaluation.family.names
    return Caption(names[true], names[said], f"{confidence:.0%}", true == said)


def figures(evaluation: Evaluation) -> Figures:
    """Confusions, class scores, calibration, and what a threshold of the confidence keeps."""
    from vitrail.report.figures import classes, confusion, reliability, thresholds

    details, names = evaluation.details, evaluation.family.names
    by_class = {
        "confusion": confusion.matrix(details["confusion"], names),
        "per_class": classes.per_class(details["classes"]),
    }
    if confusion.most_confused(details["confusion"], 1):
        by_class["confused"] = confusion.pairs(details["confusion"], names)
    sure = {
        "reliability": reliability.reliability_diagram(details["reliability"], evaluation.metrics["ece"]),
        "thresholds": thresholds.kept(*_confidences(evaluation)),
    }
    if len(names) == 2:
        scores, present = _of_second_class(evaluation)
        sure["threshold_of_class"] = thresholds.decisions(scores, present, names[1])
    return {"Classes": by_class, "Calibration": sure}


def _confidences(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each image's prediction, and whether it is right."""
    table = columns(evaluation)
    right = [true == said for true, said in zip(table["true"], table["predicted"], strict=True)]
    return np.array(table["confidence"], dtype=float), np.array(right)


def _of_second_class(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the second of two classes, and whether an image is of it."""
    logits, targets = evaluation.outputs.astype(np.float64), np.asarray(evaluation.targets)
    labels = targets.argmax(axis=1) if targets.ndim == 2 else targets
    return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), labels == 1


def trivial(names: Sequence[str]) -> list[str]:
    """Five classes are always among the first five."""
    return ["top5"] if len(names) <= 5 else []


FAMILY = Family(Metrics.headlines, columns, caption, figures, trivial=trivial)
