"""A segment for each pixel: panoptic quality, by class, of things and of stuff."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from PIL import Image

from vitrail.metrics.panoptic import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.data.segments import Segments
    from vitrail.evaluation import Evaluation
    from vitrail.ops.panoptic import Found

HEIGHT = 288  # pixels of a strip


def columns(evaluation: Evaluation) -> Columns:
    """Annotated and predicted segments, and the share of both without a partner as the loss."""
    rows = range(len(evaluation.index))
    names = [_named(evaluation, row) for row in rows]
    return {
        "true": [true for true, _ in names],
        "predicted": [predicted for _, predicted in names],
        "loss": [1 - _right(evaluation, row) for row in rows],
    }


def caption(evaluation: Evaluation, row: int) -> Caption:
    """Annotated and predicted segments, and the share of them that match."""
    right = _right(evaluation, row)
    return Caption(*_named(evaluation, row), say("{share} of the segments match", share=f"{right:.0%}"), right == 1)


def drawn(evaluation: Evaluation, row: int, picture: Image.Image) -> Image.Image:
    """The annotated segments beside the predicted ones."""
    import torch

    from vitrail.data.segments import Segments, draw_segments
    from vitrail.report.pictures import beside

    family, (true, found) = evaluation.family, _pair(evaluation, row)
    predicted = Segments(found.numbers, found.labels, torch.zeros(len(found.labels), dtype=torch.bool))
    shown = [
        draw_segments(picture, true, family.names),
        draw_segments(picture, predicted, family.names, found.scores.tolist()),
    ]
    return beside(shown, HEIGHT)


def figures(evaluation: Evaluation) -> Figures:
    """Panoptic quality per class."""
    from vitrail.report.figures import classes

    return {"Classes": {"per_class": classes.per_class(evaluation.details["classes"], "pq")}}


def _pair(evaluation: Evaluation, row: int) -> tuple[Segments, Found]:
    return cast("Segments", evaluation.targets[row]), cast("Found", evaluation.outputs[row])


def _named(evaluation: Evaluation, row: int) -> tuple[str, str]:
    """The annotated and the predicted segments in words."""
    from vitrail.data.annotations import in_words

    true, found = _pair(evaluation, row)
    names = evaluation.family.names
    return in_words(true.labels.tolist(), names), in_words(found.labels.tolist(), names)


def _right(evaluation: Evaluation, row: int) -> float:
    """Twice the matches over all segments, crowds aside."""
    from vitrail.metrics.panoptic import matched

    true, found = _pair(evaluation, row)
    total = int((~true.crowd).sum()) + len(found.labels)
    return 2 * len(matched(found, true)[1]) / total if total else 1.0


FAMILY = Family(Metrics.headlines, columns, caption, figures, drawn)
