"""Temperatures against the condition of a minimum, and the files that hold them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vitrail
from vitrail.calibration import divide_outputs, fit_temperature, fit_temperature_of_sigmoids
from vitrail.cli import main
from vitrail.data import SourceConfig
from vitrail.errors import UserError
from vitrail.report.evaluated import find_split
from vitrail.tasks.classification import Config, Task
from vitrail.vit import ViTConfig


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_is_recovered(true):
    """Labels drawn from softmax(z / T) are fitted by T; at the minimum the mean logit of the label is the expected one
    (the derivative of the cross-entropy by 1 / T)."""
    logits = torch.randn(4000, 5, dtype=torch.float64) * 2
    labels = torch.multinomial((logits / true).softmax(1), 1)[:, 0]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(true, rel=0.1)
    expected = ((logits / found).softmax(1) * logits).sum(1).mean()
    assert logits.gather(1, labels[:, None]).mean().item() == pytest.approx(expected.item(), abs=1e-4)


def test_sigmoids():
    logits = torch.randn(3000, 4, dtype=torch.float64) * 2
    targets = torch.bernoulli((logits / 2).sigmoid())
    found = fit_temperature_of_sigmoids(logits, targets)
    assert found == pytest.approx(2, rel=0.1)
    expected = ((logits / found).sigmoid() * logits).mean().item()
    assert (targets * logits).mean().item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_outputs_are_divided(tiny_predictor, task):
    predictor = tiny_predictor(task)
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        before = predictor.task(images)
        divide_outputs(predictor.task, 2.5)
        torch.testing.assert_close(predictor.task(images), before / 2.5)


def test_a_distilled_head():
    model = ViTConfig(image_size=(16, 16), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16, distillation_token=True)
    task = Task(Config(model=model, classes=("a", "b"), pool="cls_distillation", head={"distilled": True}))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = task(images)
        divide_outputs(task, 3)
        torch.testing.assert_close(task(images), before / 3)


@pytest.fixture
def photos(tiny_predictor, class_folder):
    """Pictures in the folder of the class that the tiny predictor says; a third wherever they were."""
    folder, predictor = class_folder(6), tiny_predictor()
    for path in sorted(folder.glob("*/*.png")):
        if int(path.stem) % 3:
            path.rename(folder / predictor.predict(path).label / f"{path.parent.name}-{path.name}")
    return folder


@pytest.fixture
def held_out(tiny_predictor, photos):
    return find_split(tiny_predictor(), SourceConfig(spec=str(photos)), "train")[0]


def test_a_calibrated_copy(tiny_predictor, held_out, tmp_path):
    predictor = tiny_predictor()
    result = vitrail.calibrate(predictor, held_out)
    assert result.after["loss"] < result.before["loss"]
    assert result.after["top1"] == result.before["top1"]
    assert result.images == len(held_out)
    image = np.zeros((20, 30, 3), np.uint8)
    logits = np.log(predictor.predict(image).probabilities)
    scaled = np.exp(logits / result.temperature)
    np.testing.assert_allclose(result.predictor.predict(image).probabilities, scaled / scaled.sum(), atol=1e-5)
    result.predictor.save(tmp_path / "calibrated.safetensors")
    again = vitrail.load(tmp_path / "calibrated.safetensors", device="cpu")
    assert again.metrics["temperature"] == pytest.approx(result.temperature)
    twice = vitrail.calibrate(again, held_out)
    assert twice.temperature == pytest.approx(1, abs=1e-3)
    assert twice.predictor.metrics["temperature"] == pytest.approx(result.temperature, rel=1e-3)


def test_an_exported_file_computes_calibrated_outputs(tiny_predictor, held_out, tmp_path, exported_once):
    pytest.importorskip("onnxruntime")
    result = vitrail.calibrate(tiny_predictor(), held_out)
    vitrail.export(result.predictor, tmp_path / "calibrated.onnx", to="onnx")
    exported = vitrail.load(tmp_path / "calibrated.onnx")
    image = np.full((20, 30, 3), 99, np.uint8)
    expected = result.predictor.predict(image).probabilities
    np.testing.assert_allclose(exported.predict(image).probabilities, expected, atol=1e-5)
    with pytest.raises(UserError, match="calibrate the weights it came from"):
        vitrail.calibrate(exported, held_out)


def test_the_verb(tiny_predictor, photos, tmp_path, capsys):
    weights, out = str(tmp_path / "weights.safetensors"), tmp_path / "calibrated.safetensors"
    tiny_predictor().save(weights)
    command = ["calibrate", weights, str(out), str(photos), "--device", "cpu", "--split", "train"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "temperature"
    assert any(line.startswith("calibration error") for line in lines)
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    out.unlink()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["temperature"] > 0


def test_mistakes_are_named(tiny_predictor, held_out):
    with pytest.raises(UserError, match="'regression' has none; choose a classifier"):
        vitrail.calibrate(tiny_predictor("regression"), held_out)
    with pytest.raises(UserError, match="all 3 images are classified right"):
        fit_temperature(torch.eye(3), torch.arange(3))
    with pytest.raises(UserError, match="all 3 images are classified right"):
        fit_temperature_of_sigmoids(torch.eye(3) - 0.5, torch.eye(3))
    with pytest.raises(UserError, match="no better than chance on these images"):
        fit_temperature(torch.eye(3), torch.tensor([1, 2, 0]))
