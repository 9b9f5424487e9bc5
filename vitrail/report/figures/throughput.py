"""Images per second of a model in every engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vitrail.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW, REST = 0.19, 0.95  # inches of a bar, and of what stands around the bars of a panel


@style.styled
def throughput(speeds: Mapping[str, Mapping[str, Mapping[int, float]]], note: str) -> Figure:
    """A bar for each batch size, grouped by candidate, in a panel for each image size.

    Args:
        speeds: images a second by panel, contender and batch size.
        note: what it was measured on.
    """
    from matplotlib.ticker import MaxNLocator

    batches = sorted({batch for panel in speeds.values() for each in panel.values() for batch in each})
    colours = dict(zip(batches, style.SERIES * len(batches), strict=False))
    heights = [len(panel) * (len(batches) + 0.6) * ROW + REST for panel in speeds.values()] or [REST]
    figure, grid = style.stacked(heights)
    for axes, (name, panel) in zip(grid, speeds.items(), strict=False):
        for index, batch in enumerate(batches):
            offset = (index - (len(batches) - 1) / 2) * 0.8 / len(batches)
            places = [place + offset for place, each in enumerate(panel.values()) if batch in each]
            values = [each[batch] for each in panel.values() if batch in each]
            bars = axes.barh(places, values, 0.74 / len(batches), color=colours[batch], label=f"batch {batch}")
            shown = [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values]
            axes.bar_label(bars, shown, padding=3, color=style.MUTED, fontsize=8)
        axes.set_yticks(range(len(panel)), [style.short(each, 28) for each in panel])
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        style.title(axes, f"Images per second at {name}", note)
    handles, labels = grid[0].get_legend_handles_labels()
    if len(batches) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(batches), 6), labelcolor=style.MUTED)
    return figure
