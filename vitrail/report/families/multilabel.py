"""Any number of labels per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.metrics.multilabel import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation


def columns(evaluation: Evaluation) -> Columns:
    """True and predicted labels joined by ``|``, and the mean binary cross-entropy."""
    names = evaluation.family.names
    return {
        "true": ["|".join(_chosen(names, row > 0.5)) for row in evaluation.targets],
        "predicted": ["|".join(_chosen(names, row > 0)) for row in evaluation.outputs],
        "loss": _losses(evaluation).tolist(),
    }


def caption(evaluation: Evaluation, row: int) -> Caption:
    """True and predicted labels, and how many differ."""
    present, said = evaluation.targets[row] > 0.5, evaluation.outputs[row] > 0
    names = evaluation.family.names
    wrong = int((present != said).sum())
    shown = [", ".join(_chosen(names, which)) or say("none") for which in (present, said)]
    return Caption(shown[0], shown[1], say("{count} wrong", count=wrong) if wrong else "", wrong == 0)


def figures(evaluation: Evaluation) -> Figures:
    """Average precision and precision-recall curves of every class."""
    import torch

    from vitrail.metrics.multilabel import precision_recall_curve
    from vitrail.report.figures import classes, precision_recall, thresholds

    rows = evaluation.details["classes"]
    curves = []
    for row, scores, targets in zip(rows, evaluation.outputs.T, evaluation.targets.T, strict=True):
        if row["support"]:
            present = torch.from_numpy(targets > 0.5)
            precision, recall = precision_recall_curve(torch.from_numpy(scores.copy()), present)
            curves.append((row["name"], row["ap"], precision.numpy(), recall.numpy()))
    shown = {"per_class": classes.per_class(rows, "ap"), "precision_recall": precision_recall.precision_recall(curves)}
    scores = 1 / (1 + np.exp(-evaluation.outputs.astype(np.float64)))
    shown["thresholds"] = thresholds.decisions(scores, evaluation.targets > 0.5)
    return {"Classes": shown}


def _chosen(names: Sequence[str], which: np.ndarray) -> list[str]:
    return [names[i] for i in np.flatnonzero(which).tolist()]


def _losses(evaluation: Evaluation) -> np.ndarray:
    logits, targets = evaluation.outputs.astype(np.float64), evaluation.targets
    losses: np.ndarray = (np.logaddexp(0, logits) - targets * logits).mean(axis=1)
    return losses


FAMILY = Family(Metrics.headlines, columns, caption, figures)
