"""Precision against recall for every label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = len(style.SERIES)
MAX_POINTS = 400


@style.styled
def precision_recall(curves: Sequence[tuple[str, float, np.ndarray, np.ndarray]]) -> Figure:
    """One line per class from (name, average precision, precision, recall); the lowest are named, others grey."""
    figure, axes = style.canvas(3.9)
    ordered = sorted(curves, key=lambda curve: curve[1])
    named, others = ordered[:MAX_NAMED], ordered[MAX_NAMED:]
    for _, _, precision, recall in others:
        axes.step(_thinned(recall), _thinned(precision), where="pre", color=style.MUTED, alpha=0.25, linewidth=0.8)
    for colour, (name, score, precision, recall) in zip(style.SERIES, named, strict=False):
        axes.step(
            _thinned(recall), _thinned(precision), where="pre", color=colour, label=f"{style.short(name)}  {score:.3f}"
        )
    style.from_0_to_1(axes, "x", "y")
    axes.set(xlabel=say("recall"), ylabel=say("precision"))
    axes.legend(loc="best", labelcolor=style.INK)
    weakest = say("the {named} weakest of {all} classes are named", named=MAX_NAMED, all=len(curves))
    style.title(axes, say("Precision and recall"), weakest if others else say("with average precision"))
    return figure


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most ``MAX_POINTS`` of the values, evenly spread, first and last included."""
    keep = np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).astype(int)
    return values[keep]
