"""Patch features, their principal components and their similarities, against scikit-learn and blocks run by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from vitrail.errors import UserError
from vitrail.explain import compare, comparing, explain, registry
from vitrail.explain.maps import Colours, Heat, limits_of
from vitrail.explain.methods.pca import components
from vitrail.explain.overlay import overlay, patch_at
from vitrail.explain.patch_features import PatchFeatures, patch_features

MODELS = {"class token": {}, "registers": {"registers": 2}, "mean": {"class_token": False}}
random = np.random.default_rng(5)


def images(seed):
    return torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(seed))


def made(rows, columns, dim=8, real=None):
    values = random.normal(size=(rows * columns, dim)).astype(np.float32)
    return PatchFeatures(values, (rows, columns), np.ones(len(values), bool) if real is None else real, 0)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("model", list(MODELS))
def test_features_are_those_of_blocks_run_by_hand(model, layer, tiny_predictor):
    task = tiny_predictor(**MODELS[model]).task
    tokens, grid, _ = task.vit.tokenise(images(1))
    for block in task.vit.blocks[: layer + 1]:
        tokens = block(tokens)
    expected = task.vit.norm(tokens)[0, task.vit.num_prefix :].detach()
    found = patch_features(task, images(1), layer=layer)
    assert (found.grid, found.layer, found.real.all()) == (grid, layer, True)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)


def test_components_are_scikit_learns():
    values = random.normal(size=(40, 8)) * np.linspace(4, 1, 8)
    expected = PCA(3).fit(values)
    mean, directions, share = components(values)
    np.testing.assert_allclose(mean, expected.mean_)
    assert share == pytest.approx(expected.explained_variance_ratio_.sum())
    for direction, theirs in zip(directions.T, expected.components_, strict=True):
        np.testing.assert_allclose(direction, theirs * np.sign(theirs[np.abs(theirs).argmax()]), atol=1e-9)


def test_colours_mean_the_same_in_two_images():
    """A patch of the reference that is repeated in the other image has the same colour there."""
    reference, other = made(4, 5), made(2, 3)
    other.values[4] = reference.values[7]
    (own,), (theirs,) = compare("pca", reference, reference), compare("pca", other, reference)
    np.testing.assert_allclose(theirs.values[1, 1], own.values[1, 2], atol=1e-6)
    assert (own.values.shape, theirs.values.shape) == ((4, 5, 3), (2, 3, 3))
    assert own.values.min() == 0
    assert own.values.max() == 1


def test_padding_has_no_say_in_the_components():
    real = np.arange(12) < 8
    features = made(3, 4, real=real)
    before = compare("pca", features, features)[0].values.reshape(12, 3)[real]
    features.values[~real] = 1000
    np.testing.assert_array_equal(compare("pca", features, features)[0].values.reshape(12, 3)[real], before)


@pytest.mark.parametrize("count", [1, 2])
def test_few_or_equal_patches_are_grey_where_nothing_varies(count):
    features = PatchFeatures(np.ones((count, 8), np.float32), (1, count), np.ones(count, bool), 0)
    (found,) = compare("pca", features, features)
    assert (found.values == 0.5).all()
    assert "0% of the variance" in found.title


def test_similarity_is_scikit_learns_cosine():
    reference, other = made(4, 5), made(2, 3)
    (found,) = compare("similarity", other, reference, patch=7)
    expected = cosine_similarity(other.values, reference.values[7:8]).clip(min=0)
    np.testing.assert_allclose(found.values.ravel(), expected[:, 0], atol=1e-6)
    (own,) = compare("similarity", reference, reference, patch=7)
    assert own.values.argmax() == 7 == own.patch
    assert own.values[1, 2] == pytest.approx(1)
    assert found.limits == own.limits == limits_of(own.values), "both are drawn on one scale"
    assert found.patch is None


def test_an_image_compared_with_itself(tiny_predictor):
    task = tiny_predictor().task
    for method in comparing():
        (alone,), (pair,) = (explain(task, images(1), method, reference=reference) for reference in ((), (images(1),)))
        np.testing.assert_array_equal(alone.values, pair.values)
        (other,) = explain(task, images(1), method, reference=(images(2),))
        assert not np.allclose(other.values, alone.values)


def test_methods_that_compare(tiny_predictor):
    assert comparing() == ["pca", "similarity"]
    assert all(hasattr(registry.load("explain.methods", name).Options(), "layer") for name in comparing())
    with pytest.raises(UserError, match="rollout looks at one image; for two images choose pca or similarity"):
        explain(tiny_predictor().task, images(1), "rollout", reference=(images(2),))
    with pytest.raises(UserError, match="there is no patch 20; this image has patches 0 to 19"):
        compare("similarity", made(2, 3), made(4, 5), patch=20)


def test_colours_are_painted_as_they_are_and_limits_fix_the_scale():
    grey = Image.new("RGB", (320, 320), (128, 128, 128))
    values = np.zeros((2, 2, 3), np.float32)
    values[0, 0], values[1, 1] = (1, 0, 0), (0, 0, 1)
    drawn = np.asarray(overlay(grey, Colours("", values), (0, 0, 320, 320)), int)
    assert drawn[2, 2].argmax() == 0
    assert drawn[317, 317].argmax() == 2
    warm = Heat("", np.full((2, 2), 0.5, np.float32), limits=(0.0, 1.0))
    assert (warm.planes == 0.5).all()


def test_the_patch_that_a_map_is_about_is_framed():
    grey = Image.new("RGB", (320, 320), (128, 128, 128))
    heat = np.zeros((4, 4), np.float32)
    plain, framed = (
        np.asarray(overlay(grey, Heat("", heat, patch=patch), (0, 0, 320, 320)), int) for patch in (None, 6)
    )
    rows, columns = np.nonzero(np.abs(plain - framed).sum(axis=2))
    assert rows.min() in range(70, 80)
    assert rows.max() in range(160, 170)
    assert columns.min() in range(150, 160)
    assert columns.max() in range(240, 250)


@pytest.mark.parametrize(
    ("point", "patch"), [((21, 11), 0), ((59, 29), 5), ((40, 25), 4), ((33, 11), 0), ((34, 11), 1)]
)
def test_a_point_lies_in_a_patch(point, patch):
    assert patch_at(point, (20, 10, 60, 30), (2, 3)) == patch


@pytest.mark.parametrize("point", [(19, 15), (61, 15), (30, 9), (30, 31)])
def test_a_point_that_the_model_does_not_receive(point):
    with pytest.raises(UserError, match="choose one from 20,10 to 60,30"):
        patch_at(point, (20, 10, 60, 30), (2, 3))
