"""Learning curves: loss, metrics and learning rate by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[np.ndarray, np.ndarray]
"""Epochs and the values at them."""


@style.styled
def learning_curve(
    name: str, curves: dict[str, Curve], best: Literal["max", "min"] | None = None, form: str = "{:.4g}"
) -> Figure:
    """A labelled line per curve.

    Args:
        curves: by name, e.g. ``{"train": ..., "validation": ...}``.
        best: marks the best value of the last curve.
        form: how the values are written, of str.format.
    """
    from matplotlib.ticker import PercentFormatter

    figure, axes = style.canvas(2.9)
    for colour, (label, (epochs, values)) in zip(style.SERIES, curves.items(), strict=False):
        axes.plot(epochs, values, color=colour, marker="o" if len(epochs) < 3 else None, label=label)
    if len(curves) > 1:
        _name_at_end(axes)
    note = ""
    if best is not None:
        epochs, values = list(curves.values())[-1]
        at = int(np.nanargmax(values) if best == "max" else np.nanargmin(values))
        note = say("best {value} at epoch {epoch}", value=form.format(values[at]), epoch=f"{epochs[at]:g}")
        colour = axes.get_lines()[-1].get_color()
        axes.plot(epochs[at], values[at], "o", color=colour, markerfacecolor=style.PAPER, markersize=6)
    if form.endswith("%}"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    style.title(axes, name, note)
    _by_epoch(axes)
    return figure


@style.styled
def learning_rate(epochs: np.ndarray, rates: np.ndarray, peak: float) -> Figure:
    """The learning rate at the end of each epoch.

    Args:
        peak: the highest one of all steps, which may lie within an epoch.
    """
    figure, axes = style.canvas(2.9)
    axes.fill_between(epochs, rates, color=style.BLUE, alpha=0.12, linewidth=0)
    axes.plot(epochs, rates, marker="o" if len(epochs) < 3 else None, clip_on=False)
    axes.set_ylim(0, 1.05 * max(peak, float(np.max(rates))))
    axes.axhline(peak, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.yaxis.set_major_formatter("{x:.3g}")  # an exponent above the axis would hide the note
    style.title(
        axes, say("Learning rate"), say("peak {peak}; the line shows the end of each epoch", peak=f"{peak:.3g}")
    )
    _by_epoch(axes)
    return figure


def _by_epoch(axes: Axes) -> None:
    """A horizontal axis of whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(say("epoch"))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _name_at_end(axes: Axes) -> None:
    """Labels at the last point of each line, in its colour, kept apart where lines end together."""
    low, high = axes.get_ylim()
    height = -np.inf
    for line in sorted(axes.get_lines(), key=lambda line: float(np.asarray(line.get_ydata())[-1])):
        x, y = np.asarray(line.get_xdata())[-1], float(np.asarray(line.get_ydata())[-1])
        height = max(y, height + 0.075 * (high - low))
        axes.annotate(
            style.short(str(line.get_label())), (x, height), (6, 0), textcoords="offset points",
            color=line.get_color(), va="center", fontweight="bold", annotation_clip=False,
        )  # fmt: skip
