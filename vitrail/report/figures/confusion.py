"""The confusion matrix, and the most frequently confused pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 40  # names stay legible; beyond it the classes most involved in mistakes are shown
MAX_NUMBERS = 16  # counts fit into the cells
NUM_WORST = 16


@style.styled
def matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """The matrix (K, K), true classes as rows: correct ones in blue, mistakes in orange, both as a share of the row.

    The shade of a mistake grows with the square root of its share, so that rare ones are visible too.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    shown, note = _shown(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    counts, share, names = counts[np.ix_(shown, shown)], share[np.ix_(shown, shown)], [names[i] for i in shown]
    size = len(names)
    figure, axes = style.canvas(4.9)
    for colour, inside, alpha in (
        (style.BLUE, np.eye(size, dtype=bool), share),
        (style.ORANGE, ~np.eye(size, dtype=bool), np.sqrt(share)),
    ):
        cells = [(row, column) for row, column in np.argwhere(inside & (counts > 0))]
        if not cells:
            continue
        patches = [Rectangle((column - 0.47, row - 0.47), 0.94, 0.94) for row, column in cells]
        alphas = [0.08 + 0.84 * alpha[cell] for cell in cells]
        axes.add_collection(PatchCollection(patches, facecolor=colour, alpha=alphas, edgecolor="none"))
        if size <= MAX_NUMBERS:
            _write_counts(axes, cells, counts, alphas)
    _name_axes(axes, names)
    style.title(axes, say("Confusion matrix"), note)
    return figure


@style.styled
def pairs(counts: np.ndarray, names: Sequence[str], limit: int = 12) -> Figure:
    """The most frequent mistakes as bars, "true → predicted"."""
    found = most_confused(counts, limit)
    figure, axes = style.canvas(0.9 + 0.26 * len(found))
    labels = [f"{style.short(names[true], 18)} → {style.short(names[said], 18)}" for true, said, _ in found]
    widths = [count for _, _, count in found]
    axes.barh(labels, widths, color=style.ORANGE, height=0.62)
    axes.bar_label(axes.containers[0], padding=4, color=style.INK)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=style.INK)
    style.title(axes, say("Most confused"), say("true → predicted, number of images"))
    return figure


def most_confused(counts: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """The largest off-diagonal cells as (true, predicted, count), none of them 0."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    cells = zip(*np.unravel_index(order, counts.shape), strict=True)
    return [(int(t), int(p), int(mistakes[t, p])) for t, p in cells if mistakes[t, p] > 0]


def _shown(counts: np.ndarray) -> tuple[np.ndarray, str]:
    """The classes that fit, and the line that names them."""
    if len(counts) <= MAX_CLASSES:
        return np.arange(len(counts)), say("share of each true class; mistakes are shaded more strongly")
    mistakes = counts - np.diag(np.diag(counts))
    involved = mistakes.sum(axis=0) + mistakes.sum(axis=1)
    shown = np.sort(np.argsort(-involved, kind="stable")[:NUM_WORST])
    return shown, say("the {shown} of {all} classes with the most mistakes", shown=NUM_WORST, all=len(counts))


def _write_counts(axes: Axes, cells: list[tuple[int, int]], counts: np.ndarray, alphas: list[float]) -> None:
    for (row, column), alpha in zip(cells, alphas, strict=True):
        colour = style.PAPER if alpha > 0.72 else style.INK
        axes.text(column, row, compact(int(counts[row, column])), ha="center", va="center", color=colour, fontsize=7.5)


def compact(count: int) -> str:
    """Four characters at most, below 10⁹: 9999, 14K, 1.6M."""
    if count < 10_000:
        return str(count)
    number, unit = (count / 1e3, "K") if count < 999_500 else (count / 1e6, "M")
    return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"


def _name_axes(axes: Axes, names: Sequence[str]) -> None:
    size = len(names)
    labels = [style.short(name, 16) for name in names]
    upright = size * (max(map(len, labels)) + 2) > 55  # letters that fit side by side
    fontsize = 8.5 if size <= MAX_NUMBERS else 6.2
    axes.set_xticks(range(size), labels, rotation=90 if upright else 0, fontsize=fontsize)
    axes.set_yticks(range(size), labels, fontsize=fontsize)
    axes.set(
        xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel=say("predicted"), ylabel=say("true"), aspect="equal"
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
