"""Means over an image and its mirror image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vitrail
from vitrail import registry
from vitrail.cli import main
from vitrail.data import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.losses import log_mean_softmax, logit_mean_sigmoid
from vitrail.ops.view_merging import merged_views
from vitrail.tasks import segmentation
from vitrail.tta import average_views
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=(16, 24), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def test_means_of_probabilities():
    logits = [torch.randn(3, 4, 2) for _ in range(3)]
    mean = torch.stack([each.softmax(1) for each in logits]).mean(0)
    torch.testing.assert_close(log_mean_softmax(logits).exp(), mean)
    mean = torch.stack([each.sigmoid() for each in logits]).mean(0)
    torch.testing.assert_close(logit_mean_sigmoid(logits).sigmoid(), mean)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_predictions_are_means(tiny_predictor, image, task):
    values = "values" if task == "regression" else "probabilities"
    predictor, mirror = tiny_predictor(task, resize="square"), image[:, ::-1].copy()
    each = [getattr(predictor.predict(view), values) for view in (image, mirror)]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    both = average_views(predictor)
    for view in (image, mirror):
        np.testing.assert_allclose(getattr(both.predict(view), values), np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    vectors = [predictor.embed(view) for view in (image, mirror)]
    np.testing.assert_allclose(both.embed(image), np.mean(vectors, axis=0), atol=1e-5)


def test_maps_are_turned_back():
    task = segmentation.Task(segmentation.Config(model=MODEL, classes=("a", "b", "c")))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    images = torch.randn(2, 3, 16, 24)
    engine = average_views(vitrail.Predictor(task, PreprocessConfig(size=(16, 24)), device="cpu")).engine
    with torch.no_grad():
        found = engine(images)
        expected = (task(images).softmax(1) + task(images.flip(-1)).flip(-1).softmax(1)) / 2
        torch.testing.assert_close(found.softmax(1), expected)
        torch.testing.assert_close(engine(images.flip(-1)).flip(-1), found)


def test_verbs(tiny_predictor, class_folder, tmp_path, capsys):
    weights, folder = str(tmp_path / "weights.safetensors"), str(class_folder(2))
    tiny_predictor().save(weights)
    assert main(["predict", weights, f"{folder}/cat/1.png", "--tta", "--json", "--device", "cpu"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    both = average_views(vitrail.load(weights, device="cpu"))
    assert said["score"] == pytest.approx(both.predict(f"{folder}/cat/1.png").score, abs=1e-6)
    assert main(["evaluate", weights, folder, "--tta", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "classes-train-tta.json").is_file()


def test_objects_of_both_views_come_out_once():
    """Each with the mean of its scores and its box; what one view alone shows at half its score."""
    rows = torch.tensor([[[0.9, 0.1, 2, 1, 8, 7], [0.0, 0.6, 15, 2, 21, 9]]])
    mirror = torch.tensor([[[0.7, 0.3, 15, 1, 21, 7], [0.4, 0.0, 1, 9, 6, 15]]])  # 24 pixels wide
    ((first, second, third, rest),) = merged_views([rows, mirror], (False, True), (16, 24)).rows
    left = (0.9 * 2 + 0.7 * 3) / 1.6
    torch.testing.assert_close(first, torch.tensor([0.8, 0.2, left, 1, left + 6, 7]))
    torch.testing.assert_close(second, torch.tensor([0.0, 0.3, 15, 2, 21, 9]))
    torch.testing.assert_close(third, torch.tensor([0.2, 0.0, 18, 9, 23, 15]))
    assert not rest.any()


@pytest.mark.parametrize("name", ["detection", "instances"])
def test_objects_of_the_mirror_image_are_the_mirrored_ones(name):
    module = registry.load("tasks", name)
    options = {"decoder": {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "num_queries": 6}, "threshold": 1e-4}
    task = module.Task(module.Task.configure(MODEL, ("a", "b"), None, options))
    predictor = average_views(vitrail.Predictor(task, PreprocessConfig(size=(16, 24), resize="square"), device="cpu"))
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    found, other = (predictor.predict(view) for view in (image, image[:, ::-1].copy()))
    assert len(found) > 3
    np.testing.assert_allclose(np.sort(found.scores), np.sort(other.scores), atol=1e-5)
    np.testing.assert_allclose(np.sort(24 - found.boxes_xyxy[:, 2]), np.sort(other.boxes_xyxy[:, 0]), atol=1e-3)
    if found.masks is not None:
        assert sorted(found.masks[:, :, ::-1].sum((1, 2))) == sorted(other.masks.sum((1, 2)))


def test_what_cannot_be_averaged_is_said():
    module = registry.load("tasks", "panoptic")
    task = module.Task(module.Task.configure(MODEL, ("a",), None, {"num_blocks": 1}))
    predictor = vitrail.Predictor(task, PreprocessConfig(size=(16, 24)), device="cpu")
    with pytest.raises(UserError, match="'panoptic' does not average the outputs of several views"):
        average_views(predictor)
