"""Accuracy against speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitrail.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def tradeoff(names: Sequence[str], speedups: Sequence[float], scores: Sequence[float], label: str, note: str) -> Figure:
    """A point per model: its score over its speed, joined in the order given.

    Args:
        names: of the models, the first the plain one.
        speedups: ratios to the plain model.
        scores: what ``label`` names.
    """
    figure, axes = style.canvas(3.2)
    axes.axhline(scores[0], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(speedups, scores, color=style.BLUE, marker="o", markersize=4)
    for name, x, y in zip(names, speedups, scores, strict=True):
        axes.annotate(style.short(name), (x, y), (4, 5), textcoords="offset points", color=style.MUTED, fontsize=8)
    axes.margins(x=0.1, y=0.15)
    axes.set(xlabel="speed, times the plain model's", ylabel=label)
    style.title(axes, "Speed and accuracy", note)
    return figure
