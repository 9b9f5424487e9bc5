"""A model that predicts by the mean over an image and its mirror image, wherever it runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exported_once import SIMPLE

import vitrail
from vitrail.explain import explain_all
from vitrail.predictor import Predictor
from vitrail.tasks import Task
from vitrail.tta import average_views


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def mirrored(predictor: Predictor) -> Predictor:
    """The same weights, with the option set."""
    task = predictor.task
    config = vitrail.config.override(task.config, {"mirrored": True})
    both: Task = type(task)(config)
    both.load_state_dict(task.state_dict())
    return Predictor(both.eval(), predictor.preprocess.config, device="cpu")


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_it_is_what_average_views_computes(tiny_predictor, image, task, tmp_path):
    plain = tiny_predictor(task, resize="square")
    both = mirrored(plain)
    both.save(tmp_path / "both.safetensors")
    stored = vitrail.load(tmp_path / "both.safetensors", device="cpu")
    values = "values" if task == "regression" else "probabilities"
    expected = getattr(average_views(plain).predict(image), values)
    assert np.abs(expected - getattr(plain.predict(image), values)).max() > 1e-5
    for predictor in (both, stored):
        np.testing.assert_allclose(getattr(predictor.predict(image), values), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both.embed(image), plain.embed(image), atol=1e-6)


def test_training_sees_one_view(tiny_predictor):
    plain = tiny_predictor(resize="square")
    both, images = mirrored(plain).task, torch.randn(2, 3, 16, 24)
    plain.task.train(), both.train()
    torch.testing.assert_close(both(images), plain.task(images))


def test_an_exported_graph_predicts_alike(tiny_predictor, image, tmp_path):
    both = mirrored(tiny_predictor(resize="square", **SIMPLE))
    both.save(tmp_path / "both.safetensors")
    vitrail.export(tmp_path / "both.safetensors", tmp_path / "both.onnx", to="onnx")
    found = vitrail.load(tmp_path / "both.onnx")
    np.testing.assert_allclose(found.predict(image).probabilities, both.predict(image).probabilities, atol=1e-5)


def test_explanations_look_at_the_image_alone(tiny_predictor, image):
    plain = tiny_predictor(resize="square")
    images, expected = plain.inputs(image)[0], None
    for predictor in (plain, mirrored(plain)):
        maps = explain_all(predictor.task, images)
        values = [each.values for each in maps]
        if expected is not None:
            for found, other in zip(values, expected, strict=True):
                np.testing.assert_allclose(found, other, atol=1e-6)
        expected = values


def test_formats_of_one_view_get_one(tiny_predictor, tmp_path, capsys):
    plain = tiny_predictor(resize="square", class_token=True)
    mirrored(plain).save(tmp_path / "both.safetensors")
    plain.save(tmp_path / "plain.safetensors")
    for name in ("both", "plain"):
        vitrail.convert(tmp_path / f"{name}.safetensors", tmp_path / name, to="timm")
    assert "one view is enough for files of timm" in capsys.readouterr().err
    written, wanted = (vitrail.load(tmp_path / name, device="cpu").task.state_dict() for name in ("both", "plain"))
    assert all(torch.equal(written[key], wanted[key]) for key in wanted)
