"""What follows from a threshold of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES = np.linspace(0, 1, 201)


@style.styled
def kept(confidence: np.ndarray, right: np.ndarray) -> Figure:
    """The share of images whose confidence (N,) reaches a threshold, and how many of these are right (N,)."""
    reached = confidence >= PLACES[:, None]
    counts = reached.sum(axis=1)
    accuracy = np.where(counts > 0, (reached & right).sum(axis=1) / np.maximum(counts, 1), np.nan)
    heading = say("Accuracy by threshold"), say("of the images at least as confident, and how many these are")
    lines = {say("accuracy"): accuracy, say("share of images"): counts / len(confidence)}
    return _drawn(lines, *heading, say("least confidence"))


@style.styled
def decisions(scores: np.ndarray, present: np.ndarray, name: str = "") -> Figure:
    """Precision, recall and F1 of the decisions ``score ≥ threshold`` about labels that are present or not.

    Args:
        scores: probabilities, of any shape.
        present: bool, of the same shape; several labels of an image count as one decision each.
        name: of the label, where there is one.
    """
    scores, present = scores.ravel(), present.ravel()
    chosen = scores >= PLACES[:, None]
    hits, total = (chosen & present).sum(axis=1), chosen.sum(axis=1)
    precision = np.where(total > 0, hits / np.maximum(total, 1), np.nan)
    recall = hits / max(int(present.sum()), 1)
    f1 = 2 * hits / np.maximum(total + present.sum(), 1)
    best = int(f1.argmax())
    note = say("best F1 {value} at {threshold}", value=f"{f1[best]:.3f}", threshold=f"{PLACES[best]:.2f}")
    heading = say("Threshold of {name}", name=style.short(name, 30)) if name else say("Threshold of all labels")
    return _drawn({say("precision"): precision, say("recall"): recall, "F1": f1}, heading, note, say("threshold"))


def _drawn(lines: dict[str, np.ndarray], heading: str, note: str, name: str) -> Figure:
    figure, axes = style.canvas(3.2)
    for colour, (label, values) in zip(style.SERIES, lines.items(), strict=False):
        axes.plot(PLACES, values, color=colour, label=label)
    style.from_0_to_1(axes, "x", "y")
    axes.set_xlabel(name)
    axes.legend(loc="lower left", labelcolor=style.INK)
    style.title(axes, heading, note)
    return figure
