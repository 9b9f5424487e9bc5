"""Scores per class, the lowest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 20
HEADINGS = {
    "f1": "F1 by class",
    "ap": "Average precision by class",
    "iou": "Intersection over union by class",
    "pq": "Panoptic quality by class",
}


@style.styled
def per_class(rows: list[dict[str, Any]], score: str = "f1") -> Figure:
    """A bar from 0 to each class's ``score`` with the marks of precision and recall; of many classes the lowest.

    Args:
        rows: ``name``, ``score``, ``precision``, ``recall``, ``support`` of each class; without images, no score.
    """
    defined = [row for row in rows if row["support"]]
    shown = sorted(defined, key=lambda row: row[score])[:MAX_ROWS]
    height = np.arange(len(shown))
    figure, axes = style.canvas(1.0 + 0.21 * max(len(shown), 3))
    axes.barh(height, [row[score] for row in shown], color=style.BLUE, alpha=0.22, height=0.72)
    for name, colour in (("precision", style.ORANGE), ("recall", style.GREEN)):
        values = [row[name] for row in shown]
        axes.plot(values, height, "|", color=colour, label=say(name), markersize=9, markeredgewidth=2.2)
    for row, y in zip(shown, height, strict=True):
        axes.text(0.012, y, f"{row[score]:.3f}", va="center", fontsize=7.5)
    axes.set_yticks(height, [style.short(row["name"]) for row in shown])
    axes.set(ylim=(len(shown) - 0.4, -0.6))
    style.from_0_to_1(axes, "x")
    axes.grid(axis="y", visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=style.INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, handlelength=0.6, labelcolor=style.MUTED)
    few = len(shown) == len(defined)
    style.title(
        axes,
        say(HEADINGS[score]) if score in HEADINGS else f"{score.upper()} by class",
        "" if few else say("the {shown} lowest of {all}", shown=len(shown), all=len(defined)),
    )
    return figure
