"""Reliability diagrams: accuracy by confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style

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
    top.vlines(confidence, accuracy, confidence, color=style.ORANGE, alpha=0.55, linewidth=3, label="gap")
    top.scatter(confidence, accuracy, 12 + 110 * count / count.max(), color=style.BLUE, zorder=3, label="accuracy")
    top.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy")
    style.title(top, "Reliability", f"expected calibration error {error:.3f}; dots grow with the images in a bin")
    width = 1 / len(used)
    bottom.bar((np.flatnonzero(used) + 0.5) * width, count, 0.92 * width, color=style.MUTED, alpha=0.5)
    bottom.set(xlabel="confidence", ylabel="images")
    bottom.grid(visible=False)
    return figure
