from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from vitrail.explain.projection import figure, heading, project

digits = load_digits()
VECTORS, LABELS = digits.data[:120].astype(np.float32), digits.target[:120]


def test_pca_is_the_best_plane():
    points = project(VECTORS)
    centred = VECTORS - VECTORS.mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose((points**2).sum(0), singular[:2] ** 2, rtol=1e-3)


def test_tsne_keeps_neighbours_together():
    points = project(VECTORS, "tsne")
    assert points.shape == (120, 2)
    distance = ((points[:, None] - points[None]) ** 2).sum(-1) + np.eye(120) * 1e9
    assert (LABELS[distance.argmin(1)] == LABELS).mean() > 0.8


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("count", [2, 5])
def test_few_vectors(method, count):
    points = project(VECTORS[:count], method)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("num_classes", [3, 15, 60])
def test_a_class_a_colour_and_a_legend_while_it_can_be_read(num_classes):
    labels = np.arange(120) % num_classes
    drawing = figure(project(VECTORS), labels, [f"class {i}" for i in range(num_classes)])
    colours = {tuple(c.get_facecolor()[0]) for c in drawing.axes[0].collections}
    assert len(colours) == num_classes
    assert bool(drawing.legends) == (num_classes <= 20)


def test_the_heading_gives_the_share_of_the_variance():
    share = PCA(2).fit(VECTORS).explained_variance_ratio_.sum()
    text = heading(VECTORS, project(VECTORS), "pca", "digits")
    assert text == f"Features of 120 images of digits\nfirst two principal components, {share:.0%} of the variance"
    assert "variance" not in heading(VECTORS, project(VECTORS), "tsne", "digits")
    assert figure(project(VECTORS), LABELS, (), text).axes[0].get_title(loc="left") == text
