"""Features projected onto the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrail.report import style
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS, MAX_NAMED = 3000, 20


@style.styled
def projection(features: np.ndarray, labels: np.ndarray | None, names: Sequence[str]) -> Figure:
    """The two directions in which the features (N, D) vary most, coloured by class if labels (N,) are known."""
    import matplotlib as mpl

    centred = features - features.mean(axis=0)
    directions = np.linalg.svd(np.cov(centred.T))[0][:, :2]
    plane = centred @ directions
    share = plane.var(axis=0).sum() / max(centred.var(axis=0).sum(), 1e-30)
    chosen = np.random.default_rng(0).permutation(len(plane))[:MAX_POINTS]
    figure, axes = style.canvas(4.6)
    if labels is None:
        axes.scatter(*plane[chosen].T, s=6, alpha=0.5, linewidth=0, rasterized=True)
    else:
        palette = mpl.colormaps["tab20" if len(names) > 10 else "tab10"]
        axes.scatter(*plane[chosen].T, c=palette(labels[chosen] % 20), s=6, alpha=0.5, linewidth=0, rasterized=True)
        for label in np.unique(labels)[:MAX_NAMED]:
            place = np.median(plane[labels == label], axis=0)
            box = {"facecolor": style.PAPER, "alpha": 0.7, "linewidth": 0, "pad": 1}
            axes.annotate(style.short(names[label], 14), place, ha="center", va="center", fontsize=7, bbox=box)
    axes.set(xticks=[], yticks=[])
    note = say("first two principal components, {share} of the variance", share=f"{share:.0%}")
    style.title(axes, say("Features"), note)
    return figure
