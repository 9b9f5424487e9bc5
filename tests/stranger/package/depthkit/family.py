"""How depth is shown in reports and by ``vitrail evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from depthkit.colours import coloured
from vitrail.report.families import Caption, Columns, Family, Figures, Headline

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation

HEADLINES = {
    "delta1": Headline("δ < 1.25", "{:.2%}"),
    "abs_rel": Headline("relative error", "{:.4f}"),
    "rmse": Headline("root mean squared error (m)", "{:.4g}"),
}
HEIGHT = 224  # pixels of a strip
RIGHT = 0.9  # δ < 1.25 from which an image counts as correct


def columns(evaluation: Evaluation) -> Columns:
    """Mean true and predicted depth of each image, and its relative error as the loss."""
    true, predicted = _means(evaluation)
    loss = [_errors(evaluation, row)[1] for row in range(len(evaluation.index))]
    return {"true": true.tolist(), "predicted": predicted.tolist(), "loss": loss}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """Mean depths, and the share of pixels that are correct."""
    true, predicted = (f"{values[row]:.3g} m" for values in _means(evaluation))
    delta, _, _ = _errors(evaluation, row)
    return Caption(true, predicted, f"δ < 1.25: {delta:.1%}", delta >= RIGHT)


def figures(evaluation: Evaluation) -> Figures:
    """Predicted against true mean depths."""
    from vitrail.report.figures import numbers

    true, predicted = (values[:, None] for values in _means(evaluation))
    names = ("mean depth (m)",)
    return {
        "Depth": {
            "predicted": numbers.predicted_against_true(predicted, true, names),
            "errors": numbers.errors(predicted, true, names),
        }
    }


def drawn(evaluation: Evaluation, row: int, image: Image.Image) -> Image.Image:
    """The image, its true depths and the predicted ones, in the same colours."""
    from vitrail.report.pictures import beside

    maps = [np.asarray(each[row]) for each in (evaluation.targets, evaluation.outputs)]
    farthest = float(maps[0].max())
    return beside([image.convert("RGB"), *(coloured(depths, farthest) for depths in maps)], HEIGHT)


def _means(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the mean true and predicted depth where the truth is known, (N,)."""
    known = [np.asarray(true) > 0 for true in evaluation.targets]
    maps = (evaluation.targets, evaluation.outputs)
    true, predicted = (
        np.array(
            [np.asarray(each)[where].mean() if where.any() else 0.0 for each, where in zip(rows, known, strict=True)]
        )
        for rows in maps
    )
    return true, predicted


def _errors(evaluation: Evaluation, row: int) -> tuple[float, float, float]:
    from depthkit.metrics import errors

    return errors(*(torch.as_tensor(each[row]) for each in (evaluation.outputs, evaluation.targets)))


FAMILY = Family(HEADLINES, columns, caption, figures, drawn)
