"""Objects: matched and wrong detections, and missed objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vitrail.metrics.detection import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation
    from vitrail.metrics.detection import Matched, Metrics
    from vitrail.ops.detections import Detections

FOUND, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (0, 114, 178)
HEIGHT = 288  # pixels of a strip


def columns(evaluation: Evaluation) -> Columns:
    """Objects; matched, wrong and missed ones at the score threshold; the loss counts wrong and missed ones."""
    fates = [_fate(evaluation, row) for row in range(len(evaluation.index))]
    found, wrong = ([int(count(each.found).sum()) for each in fates] for count in (lambda f: f >= 0, lambda f: f == -1))
    missed = [len(each.missed) for each in fates]
    objects = [f + m for f, m in zip(found, missed, strict=True)]
    loss = [float(w + m) for w, m in zip(wrong, missed, strict=True)]
    return {"objects": objects, "found": found, "wrong": wrong, "missed": missed, "loss": loss}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """The objects that are there, the predicted ones, and how many are missed or wrong."""
    from vitrail.data.annotations import in_words

    names, fate, true = evaluation.family.names, _fate(evaluation, row), evaluation.targets[row]
    texts = [in_words(labels.tolist(), names) for labels in (true.labels, _said(evaluation, row).labels)]
    wrong, missed = int((fate.found == -1).sum()), len(fate.missed)
    texts_of = {"{count} missed": missed, "{count} wrong": wrong}
    parts = [say(text, count=count) for text, count in texts_of.items() if count]
    return Caption(texts[0], texts[1], ", ".join(parts), not parts)


def drawn(evaluation: Evaluation, row: int, picture: Image.Image) -> Image.Image:
    """The truth, and next to it the predictions: right in green, wrong in orange, and missed objects in blue."""
    from vitrail.data import targets
    from vitrail.data.drawing import draw_objects
    from vitrail.report.pictures import beside

    names, fate, true = evaluation.family.names, _fate(evaluation, row), evaluation.targets[row]
    said, missed = _said(evaluation, row), true.take(_places(fate.missed))
    marked = [FOUND if each >= 0 else WRONG for each in fate.found.tolist()] + [MISSED] * len(missed)
    answer = draw_objects(
        picture,
        np.concatenate((said.boxes_xyxy.numpy(), missed.boxes_xyxy.numpy())),
        [*said.labels.tolist(), *missed.labels.tolist()],
        names,
        scores=[*said.scores.tolist(), *[None] * len(missed)],
        colours=marked,
    )
    return beside([targets.load("boxes").draw(picture, true, names), answer], HEIGHT)


def figures(evaluation: Evaluation) -> Figures:
    """Precision against recall, average precision per class, and the confusion matrix."""
    from vitrail.report.figures import classes, confusion, precision_recall

    family, details = _family(evaluation), evaluation.details
    curves = [
        (name, curve.average_precision, curve.precision, curve.recall)
        for name, curve in zip(family.names, family.curves(), strict=True)
        if curve.num_objects and len(curve.scores)
    ]
    shown = {
        "per_class": classes.per_class(details["classes"], "ap"),
        "confusion": confusion.matrix(family.confusion(details["threshold"]), [*family.names, say("nothing")]),
    }
    return {"Classes": {**({"precision_recall": precision_recall.precision_recall(curves)} if curves else {}), **shown}}


def _family(evaluation: Evaluation) -> Metrics:
    from vitrail.metrics.detection import Metrics

    assert isinstance(evaluation.family, Metrics)
    return evaluation.family


def _fate(evaluation: Evaluation, row: int) -> Matched:
    from vitrail.metrics.detection import match

    return match(_said(evaluation, row), evaluation.targets[row])


def _said(evaluation: Evaluation, row: int) -> Detections:
    return _family(evaluation).detections[row].over(evaluation.details["threshold"])


def _places(rows: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(rows)


FAMILY = Family(Metrics.headlines, columns, caption, figures, drawn)
