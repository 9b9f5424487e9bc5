"""Reliability diagrams: accuracy by confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def reliability_diagram(bins: dict[str, np.ndarray], error: float) -> Figure:
    """Accuracy over confidence, each bin's distance to the diagonal, and its number of images.

    Args:
        bins: ``confidence``, ``accuracy`` and ``count`` of ``metrics.classification.reliability``.
        error: the expected calibration error, shown as a number.
    """
    figure, (top, bottom) = style.stacked((3.52, 0.88), sharex=True)
    used = bins["count"] > 0
    confidence, accuracy, count = (bins[name][used] for name in ("confidence", "accuracy", "count"))
    top.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    top.vlines(confidence, accuracy, confidence, color=style.ORANGE, alpha=0.55, linewidth=3)
    top.scatter(confidence, accuracy, 12 + 110 * count / count.max(), color=style.BLUE, zorder=3)
    top.set(ylabel=say("accuracy"))
    style.from_0_to_1(top, "x", "y")
    note = say("expected calibration error {error}; dots grow with the images in a bin", error=f"{error:.3f}")
    style.title(top, say("Reliability"), note)
    width = 1 / len(used)
    bottom.bar((np.flatnonzero(used) + 0.5) * width, count, 0.92 * width, color=style.MUTED, alpha=0.5)
    bottom.set(xlabel=say("confidence"), ylabel=say("images"))
    bottom.grid(visible=False)
    return figure
