"""The loss of a generative model by how noisy the images were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.metrics.denoising import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation


def columns(evaluation: Evaluation) -> Columns:
    """Time and loss of each image."""
    times, losses = np.asarray(evaluation.outputs, dtype=float).T
    return {"time": times.tolist(), "loss": losses.tolist()}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """How much of the image there was."""
    time, loss = np.asarray(evaluation.outputs[row], dtype=float)
    return Caption("", "", say("{share} of the image, loss {loss}", share=f"{time:.0%}", loss=f"{loss:.3f}"), True)


def figures(evaluation: Evaluation) -> Figures:
    """The loss against the time."""
    from vitrail.report.figures import numbers

    times, losses = np.asarray(evaluation.outputs, dtype=float).T
    return {"Loss": {"by_time": numbers.scattered(times, losses, say("from noise (0) to the image (1)"), say("loss"))}}


FAMILY = Family(Metrics.headlines, columns, caption, figures)
