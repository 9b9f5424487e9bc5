"""Accuracy of probes: by layer, by share of the labels, or by setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places (N,), accuracies (N,), and the lower and upper ends of their intervals (2, N)."""


@style.styled
def accuracy(curves: dict[str, Points], name: str, note: str = "", *, log: bool = False) -> Figure:
    """Accuracies with error bars, a line for each curve, with a legend if there are several.

    Args:
        curves: by name.
        name: of the horizontal axis.
        log: draw that logarithmically.
    """
    figure, axes = style.canvas(3.2)
    for index, (label, (x, y, (low, high))) in enumerate(curves.items()):
        colour = style.SERIES[index % len(style.SERIES)]
        bars = 100 * np.stack((y - low, high - y))
        axes.errorbar(x, 100 * y, bars, color=colour, label=label, marker="o", markersize=4, capsize=2.5)
    if log:
        axes.set_xscale("log")
        axes.minorticks_off()
    ticks = np.unique(np.concatenate([x for x, _, _ in curves.values()]))
    if len(ticks) <= 12:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if len(curves) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(curves), 4), labelcolor=style.MUTED)
    axes.set(xlabel=name, ylabel="accuracy in %")
    style.title(axes, "Accuracy of the probe", note)
    return figure
