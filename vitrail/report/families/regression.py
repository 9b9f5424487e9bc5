"""One or several numbers per image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.metrics.regression import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation


def columns(evaluation: Evaluation) -> Columns:
    """True and predicted value of every target, and the mean squared error in units of the metrics' scale."""
    result: Columns = {}
    for name, true, said in zip(evaluation.family.names, _targets(evaluation).T, evaluation.outputs.T, strict=True):
        result |= {f"true {name}": true.tolist(), f"predicted {name}": said.tolist()}
    return result | {"loss": _losses(evaluation).tolist()}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """The numbers, and the largest error relative to the scale of the metrics."""
    true, said = _targets(evaluation)[row], evaluation.outputs[row]
    worst = int(np.abs((said - true) / _scale(evaluation)).argmax())
    text = [", ".join(f"{value:.3g}" for value in values[:4]) for values in (true, said)]
    name = f"{evaluation.family.names[worst]} " if len(true) > 1 else ""
    return Caption(text[0], text[1], f"{name}{said[worst] - true[worst]:+.3g}", False)


def figures(evaluation: Evaluation) -> Figures:
    """Predicted against true, and the distribution of errors."""
    from vitrail.report.figures import numbers

    arguments = (evaluation.outputs, _targets(evaluation), evaluation.family.names)
    return {"Errors": {"predicted": numbers.predicted_against_true(*arguments), "errors": numbers.errors(*arguments)}}


def _targets(evaluation: Evaluation) -> np.ndarray:
    return evaluation.targets.reshape(evaluation.outputs.shape)


def _losses(evaluation: Evaluation) -> np.ndarray:
    errors = (evaluation.outputs - _targets(evaluation)) / _scale(evaluation)
    losses: np.ndarray = (errors**2).mean(axis=1)
    return losses


def _scale(evaluation: Evaluation) -> np.ndarray:
    from vitrail.metrics.regression import Metrics

    assert isinstance(evaluation.family, Metrics)
    return evaluation.family.scale.numpy()


FAMILY = Family(Metrics.headlines, columns, caption, figures)
