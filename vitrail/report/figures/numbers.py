"""Predicted against true numbers, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TARGETS = 6
FEW_POINTS = 2000  # above it points are drawn as pixels and fainter


@style.styled
def predicted_against_true(
    values: np.ndarray, targets: np.ndarray, names: Sequence[str], axis_names: tuple[str, str] | None = None
) -> Figure:
    """A scatter plot per target column (N, K), with the diagonal on which predictions are correct.

    Args:
        axis_names: of targets and values, where they are something else than true and predicted.
    """
    across, up = axis_names or (say("true"), say("predicted"))
    note = say("predicted against true") if axis_names is None else say("a point for each image")
    names = names[:MAX_TARGETS]
    figure, grid = style.stacked([4.6] * len(names))
    many = len(values) > FEW_POINTS
    for axes, name, value, target in zip(grid, names, values.T, targets.T, strict=False):
        low, high = min(value.min(), target.min()), max(value.max(), target.max())
        pad = 0.04 * (high - low) or 1
        limits = (low - pad, high + pad)
        axes.plot(limits, limits, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter(target, value, s=6 if many else 14, alpha=0.25 if many else 0.6, linewidth=0, rasterized=many)
        axes.set(xlim=limits, ylim=limits, xlabel=across, ylabel=up, aspect="equal")
        style.title(axes, style.short(name, 40), note)
    return figure


@style.styled
def scattered(across: np.ndarray, up: np.ndarray, across_name: str, up_name: str) -> Figure:
    """A point for each image, (N,) and (N,), and the mean of the points around each place."""
    figure, (axes,) = style.stacked([3.4])
    many = len(across) > FEW_POINTS
    axes.scatter(across, up, s=6 if many else 14, alpha=0.25 if many else 0.6, linewidth=0, rasterized=many)
    edges = np.linspace(across.min(), across.max(), 11)
    places = np.clip(np.digitize(across, edges) - 1, 0, 9)
    filled = [place for place in range(10) if (places == place).any()]
    centres, means = (edges[:-1] + edges[1:])[filled] / 2, [up[places == place].mean() for place in filled]
    axes.plot(centres, means, color=style.ORANGE)
    axes.set(xlabel=across_name, ylabel=up_name)
    style.title(axes, up_name, say("a point for each image, and their mean"))
    return figure


@style.styled
def errors(values: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Figure:
    """The distribution of predicted − true for each target column (N, K), with its mean."""
    names = names[:MAX_TARGETS]
    figure, grid = style.stacked([2.6] * len(names))
    for axes, name, error in zip(grid, names, (values - targets).T.astype(np.float64), strict=False):
        axes.hist(error, bins=_edges(error), color=style.BLUE, alpha=0.75)
        axes.axvline(0, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.axvline(error.mean(), color=style.ORANGE)
        axes.set(xlabel=say("predicted − true"), ylabel=say("images"))
        note = say("mean {mean}, spread {spread}", mean=f"{error.mean():.3g}", spread=f"{error.std():.3g}")
        style.title(axes, say("Errors of {name}", name=style.short(name, 30)), note)
    return figure


def _edges(error: np.ndarray) -> np.ndarray:
    """Histogram bins, about √N of them, over a range that is never empty."""
    middle, half = (error.max() + error.min()) / 2, (error.max() - error.min()) / 2
    half = max(half, 1e-6 * max(abs(middle), 1))
    return np.linspace(middle - half, middle + half, int(np.clip(np.sqrt(len(error)), 9, 60)) + 1)
