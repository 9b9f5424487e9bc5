from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.explain import vit_figures


@pytest.fixture
def vit(tiny_predictor):
    return tiny_predictor().task.vit


def test_attention_distance_by_hand():
    """One row of three patches 8 pixels apart and a class token; two heads."""
    nearest = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.4, 0.6, 0, 0], [0.4, 0, 0.6, 0], [0.4, 0, 0, 0.6]])
    ends = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.5, 0, 0, 0.5], [0.5, 0.25, 0, 0.25], [0.2, 0.2, 0.2, 0.4]])
    attentions = torch.stack((nearest, ends))[None]
    distance = vit_figures.attention_distance(attentions, (1, 3), (8, 8))
    assert distance[0] == 0
    assert distance[1].item() == pytest.approx((16 + 8 + (0.2 * 16 + 0.2 * 8) / 0.8) / 3)


def test_attention_distance_measures_rows_and_columns_in_their_own_pixels():
    weights = torch.zeros(1, 1, 4, 4)
    weights[0, 0, [0, 1, 2, 3], [3, 2, 1, 0]] = 1  # each patch of a 2 × 2 grid to the opposite corner
    assert vit_figures.attention_distance(weights, (2, 2), (6, 8)).item() == pytest.approx(10)


def test_attention_distance_leaves_padding_out():
    weights = torch.tensor([[[[0.5, 0.5, 0], [0.5, 0.5, 0], [0.0, 0, 0]]]])
    padding = torch.tensor([[[False, False, True]]])
    assert vit_figures.attention_distance(weights, (1, 3), (8, 8), padding).item() == pytest.approx(4)


def test_attention_distances_do_not_depend_on_batches(tiny_predictor):
    task, images = tiny_predictor().task, torch.randn(5, 3, 16, 24)
    whole = vit_figures.attention_distances(task, [(images,)])
    assert whole.shape == (2, 2)
    assert (whole > 0).all()
    assert (whole < np.hypot(16, 24)).all()
    np.testing.assert_allclose(
        vit_figures.attention_distances(task, [(part,) for part in images.split(2)]), whole, rtol=1e-5
    )


def test_filters_are_the_principal_components(vit):
    kernel = vit.embed.projection.weight.detach().flatten(1)
    images = vit_figures.filters(vit, 5)
    assert images.shape == (5, 8, 8, 3)
    _, vectors = torch.linalg.eigh(torch.cov(kernel.T, correction=0))
    for image, vector in zip(images, vectors.T.flip(0), strict=False):
        flat = torch.from_numpy(image).permute(2, 0, 1).flatten()
        correlation = torch.corrcoef(torch.stack((flat, vector)))[0, 1]
        assert abs(correlation.item()) == pytest.approx(1, abs=1e-3)
        assert image.min() == 0
        assert image.max() == 1


@pytest.mark.parametrize("channels", [1, 5])
def test_filters_of_other_channel_counts_are_grey(tiny_predictor, channels):
    assert vit_figures.filters(tiny_predictor(channels=channels).task.vit).shape[1:] == (8, 8, 1)


@pytest.mark.parametrize("model", [{}, {"registers": 2}, {"class_token": False}, {"positions": "sincos_2d"}])
def test_position_similarity_is_the_cosine(tiny_predictor, model):
    vit = tiny_predictor(**model).task.vit
    table = vit.positions.embedding.detach().reshape(-1, 32)[-6:]
    similarity = vit_figures.position_similarity(vit)
    assert similarity.shape == (2, 3, 2, 3)
    for a in range(6):
        for b in range(6):
            expected = torch.cosine_similarity(table[a], table[b], dim=0).item()
            assert similarity[a // 3, a % 3, b // 3, b % 3] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "num_axes"),
    [({}, 1 + 6 + 1 + 1), ({"positions": "rope_2d"}, 2), ({"embed": {"kind": "conv"}}, 1 + 6 + 1 + 1)],
)
def test_the_figure_has_the_parts_that_the_model_has(tiny_predictor, model, num_axes, tmp_path):
    task = tiny_predictor(**model).task
    vit = task.vit
    distances = vit_figures.attention_distances(task, [(torch.randn(2, 3, 16, 24),)])
    figure = vit_figures.figure(vit, distances)
    assert len(figure.get_axes()) == num_axes
    figure.savefig(tmp_path / "a.png")
    assert len(vit_figures.figure(vit).get_axes()) == num_axes - 1
