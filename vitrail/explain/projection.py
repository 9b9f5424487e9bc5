"""Two-dimensional projections of feature vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitrail.console import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Projection = Literal["pca", "tsne"]
MAX_LEGEND = 20  # classes named in the legend


def project(vectors: np.ndarray, method: Projection = "pca", *, seed: int = 0) -> np.ndarray:
    """(N, D) → (N, 2): principal components, or t-SNE (van der Maaten & Hinton 2008) on the first 50 of them."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(50 if method == "tsne" else 2, *vectors.shape)
    points: np.ndarray = PCA(count, random_state=seed).fit_transform(vectors)
    if method == "tsne":
        perplexity = min(30.0, max((len(points) - 1) / 3, 1.0))
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def heading(vectors: np.ndarray, points: np.ndarray, method: Projection, name: str) -> str:
    """What the points (N, 2) of the vectors (N, D) are, and of principal components their share of the variance.

    Args:
        name: of the data.
    """
    first = f"Features of {len(vectors):,} images of {printable(name)}"
    if method == "tsne":
        return f"{first}\nt-SNE: near points are alike, distances between groups mean little"
    total = float(vectors.var(axis=0, dtype=np.float64).sum())
    share = float(points.var(axis=0, dtype=np.float64).sum()) / total if total > 0 else 0.0
    return f"{first}\nfirst two principal components, {share:.0%} of the variance"


def figure(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], title: str = "") -> Figure:
    """The points (N, 2), coloured by ``labels``: int (N,) into ``classes``, or numbers (N,); empty for one colour."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8, 6.4), layout="constrained", dpi=130)
    axis = drawing.subplots()
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, loc="left", fontsize=11, parse_math=False)
    size = float(np.clip(3000 / max(len(points), 1), 3, 30))
    if classes and len(labels):
        palette = colormaps["tab10" if len(classes) <= 10 else "tab20" if len(classes) <= 20 else "turbo"]
        for index, name in enumerate(classes):
            colour = palette(index if len(classes) <= 20 else index / (len(classes) - 1))
            x, y = points[labels == index].T
            axis.scatter(x, y, s=size, color=colour, label=name)
        if len(classes) <= MAX_LEGEND:
            drawing.legend(loc="outside right upper", frameon=False, markerscale=2)
    elif len(labels):
        drawing.colorbar(axis.scatter(points[:, 0], points[:, 1], s=size, c=labels, cmap="viridis"), ax=axis)
    else:
        axis.scatter(points[:, 0], points[:, 1], s=size)
    return drawing
