"""One class per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vitrail.metrics.segmentation import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation

HEIGHT = 288  # pixels of a strip
RIGHT = 0.99  # share of an image's pixels from which it counts as correct


def columns(evaluation: Evaluation) -> Columns:
    """True and predicted classes, and the share of wrong pixels as the loss."""
    true, said = ([_named(each, evaluation) for each in maps] for maps in (evaluation.targets, evaluation.outputs))
    rows = range(len(evaluation.index))
    return {"true": true, "predicted": said, "loss": [1 - _right(evaluation, row) for row in rows]}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """True and predicted classes, and the share of correct pixels."""
    true, said = (_named(maps[row], evaluation) for maps in (evaluation.targets, evaluation.outputs))
    right = _right(evaluation, row)
    return Caption(true, said, say("{share} of the pixels", share=f"{right:.1%}"), right >= RIGHT)


def drawn(evaluation: Evaluation, row: int, picture: Image.Image) -> Image.Image:
    """The true map next to the predicted one."""
    from vitrail.data.drawing import draw_map
    from vitrail.report.pictures import beside

    maps = (np.asarray(each[row]) for each in (evaluation.targets, evaluation.outputs))
    return beside([draw_map(picture, map_, evaluation.family.names) for map_ in maps], HEIGHT)


def figures(evaluation: Evaluation) -> Figures:
    """Intersection over union per class, and the confusion matrix in pixels."""
    from vitrail.metrics.segmentation import Metrics
    from vitrail.report.figures import classes, confusion

    family = evaluation.family
    assert isinstance(family, Metrics)
    shown = {"per_class": classes.per_class(evaluation.details["classes"], "iou")}
    return {"Classes": shown | {"confusion": confusion.matrix(family.confusion, family.names)}}


def _right(evaluation: Evaluation, row: int) -> float:
    """The share of correct pixels among the labelled ones."""
    from vitrail.ops.segmentation_losses import IGNORE

    true, said = np.asarray(evaluation.targets[row]), np.asarray(evaluation.outputs[row])
    known = true != IGNORE
    return float((true == said)[known].mean()) if known.any() else 1.0


def _named(map_: Any, evaluation: Evaluation) -> str:
    """The classes of a map except the first one, the background."""
    names = evaluation.family.names
    return ", ".join(names[label] for label in np.unique(map_) if 0 < label < len(names)) or names[0]


FAMILY = Family(Metrics.headlines, columns, caption, figures, drawn)
