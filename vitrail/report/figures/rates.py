"""The loss while the learning rate rises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitrail.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def rate_curve(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggested: float) -> Figure:
    """Losses by rate on a logarithmic axis, smoothed and as they are, with the suggested rate."""
    figure, axes = style.canvas(3.2)
    axes.plot(rates, losses, color=style.BLUE, alpha=0.25, linewidth=1)
    axes.plot(rates, smoothed, color=style.BLUE)
    axes.axvline(suggested, color=style.ORANGE, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    start, low = smoothed[0], min(smoothed)
    axes.set_ylim(low - 0.2 * (start - low) - 0.05 * abs(low), start + 0.5 * (start - low) + 0.05 * abs(start))
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.margins(x=0.01)
    style.title(axes, "Learning-rate range test", f"suggested {suggested:.2g}")
    return figure
