"""Features: their spread, and the classes of nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.metrics.representation import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation


def columns(evaluation: Evaluation) -> Columns:
    """True class, class voted for by neighbours, and the loss of the vote; without labels only zeros."""
    if (votes := _votes(evaluation)) is None:
        return {"loss": [0.0] * len(evaluation.index)}
    said, true = votes.argmax(axis=1), evaluation.targets
    loss = -np.log(np.maximum(votes[np.arange(len(true)), true], 1e-12))
    return {"true": true.tolist(), "neighbours": said.tolist(), "loss": loss.tolist()}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """The true class, and the class that the neighbours vote for."""
    if (votes := _votes(evaluation)) is None:
        return Caption("", "", "", True)
    true, said, names = int(evaluation.targets[row]), int(votes[row].argmax()), evaluation.family.names
    return Caption(names[true], names[said], say("{share} of the vote", share=f"{votes[row, said]:.0%}"), true == said)


def figures(evaluation: Evaluation) -> Figures:
    """The first two principal components."""
    from vitrail.report.figures.projection import projection

    labels = None if _votes(evaluation) is None else evaluation.targets
    return {"Features": {"features": projection(evaluation.outputs, labels, evaluation.family.names)}}


def _votes(evaluation: Evaluation) -> np.ndarray | None:
    """The votes of each image's neighbours, (N, K); None without labels."""
    from vitrail.metrics.representation import Metrics

    assert isinstance(evaluation.family, Metrics)
    return None if evaluation.family.votes is None else evaluation.family.votes.numpy()


FAMILY = Family(Metrics.headlines, columns, caption, figures)
