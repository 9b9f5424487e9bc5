"""Variants of a model, what they cost, and the pictures of their tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail import compress
from vitrail.compress.curve import cost, curve_table, measure
from vitrail.compress.token_overlay import token_overlay
from vitrail.data import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.vit_costs import count


@pytest.fixture
def photos(class_folder):
    return open_source(SourceConfig(spec=str(class_folder(3)), val_fraction=0)).train


def test_the_cost_of_a_plain_model_is_that_of_its_config(tiny_predictor):
    task = tiny_predictor().task
    expected, found = count(task.vit.config, num_classes=4), cost(task)
    assert (found.macs, found.parameters, found.tokens) == (expected.macs, expected.parameters, 6)
    assert not any(parameter.is_meta for parameter in task.parameters())


def test_fewer_tokens_and_fewer_units_cost_less(tiny_predictor):
    predictor = tiny_predictor(image_size=32, patch_size=4, mlp_dim=64)
    merged = compress.apply(predictor, "tome", r=16).task
    assert cost(merged).tokens == 32
    assert cost(merged).macs < 0.9 * cost(predictor.task).macs
    batch = {"images": torch.randn(2, 3, 32, 32), "targets": torch.tensor([1, 3])}
    small = compress.apply(predictor, "prune", calibration=[batch], share=0.5).task
    assert cost(small).tokens == 64
    assert cost(small).parameters < 0.7 * cost(predictor.task).parameters


def test_a_curve_has_the_plain_model_and_one_point_a_level(tiny_predictor, photos):
    predictor = tiny_predictor()
    models = compress.variants(predictor, "tome", (1, 2))
    assert list(models) == ["plain", "r=1", "r=2"]
    points = measure(models, photos, batch_size=5, rounds=1)
    assert [point.name for point in points] == list(models)
    assert [point.cost.tokens for point in points] == [6, 4, 2]
    assert points[0].speedup == 1
    assert points[2].speedup == pytest.approx(points[2].images_per_second / points[0].images_per_second)
    with torch.inference_mode():
        for point, model in zip(points, models.values(), strict=True):
            said = model.predict([photos.read(i) for i in range(12)])
            top1 = np.mean([each.label == photos.classes[photos.targets[i]] for i, each in enumerate(said)])
            assert point.evaluation.metrics["top1"] == pytest.approx(top1)
            assert curve_table([point]).to_dict()[0]["metrics"] == point.evaluation.metrics


@pytest.mark.parametrize("method", compress.method_names())
def test_the_levels_of_a_method_fit_its_options(method, tiny_predictor):
    batch = {"images": torch.randn(2, 3, 16, 24), "targets": torch.tensor([1, 3])}
    models = compress.variants(tiny_predictor(), method, calibration=[batch])
    assert len(models) > 2
    outputs = [model.task(batch["images"]) for model in models.values()]
    assert not any(torch.allclose(outputs[0], each, atol=1e-4) for each in outputs[2:])


def test_a_level_that_is_an_option_too(tiny_predictor):
    with pytest.raises(UserError, match="'r' is what the levels vary; give levels"):
        compress.variants(tiny_predictor(), "tome", (1, 2), r=3)


def test_a_token_overlay_has_one_colour_per_token():
    pixels = np.random.default_rng(1).integers(0, 256, (320, 480, 3), dtype=np.uint8)
    source = np.array([[0, 0, 1], [2, 1, 1]])
    seen = np.asarray(token_overlay(Image.fromarray(pixels), source, (0, 0, 480, 320)))
    assert seen.shape == pixels.shape
    blocks = pixels.reshape(2, 160, 3, 160, 3).swapaxes(1, 2)
    for token in range(3):
        colour = blocks[source == token].reshape(-1, 3).mean(0)
        for row, column in np.argwhere(source == token):
            middle = seen[row * 160 + 5 : row * 160 + 150, column * 160 + 5 : column * 160 + 150]
            np.testing.assert_allclose(middle.reshape(-1, 3), np.broadcast_to(colour, (145 * 145, 3)), atol=0.51)
    assert (seen[40, 319] > seen[40, 300]).all(), "a border between two tokens"
    assert (seen[40, 159] == seen[40, 150]).all(), "and none within one"


def test_a_token_overlay_of_what_the_model_saw(tiny_predictor):
    """A region that is smaller than the picture on one side and larger on the other."""
    picture = Image.fromarray(np.full((100, 400, 3), 200, np.uint8))
    seen = token_overlay(picture, np.zeros((2, 3), int), (100, -20, 300, 120))
    assert seen.size == (200, 140)
    expected = 200 * 100 / 140  # the border counts as black
    np.testing.assert_allclose(np.asarray(seen), round(expected))
