"""Engines are compared with the task when they are made: each part of packed outputs on its own scale, once."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from decoders import DETR
from exported_once import SIMPLE

import vitrail
from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import cache, choose, comparing
from vitrail.engines.choose import start
from vitrail.engines.comparing import differences
from vitrail.engines.packed import PackedLinear
from vitrail.engines.runtimes import onnxruntime, openvino
from vitrail.errors import UserError
from vitrail.predictor import Predictor

pytestmark = pytest.mark.usefixtures("exported_once", "own_cache")
MODEL = {"image_size": (16, 24), "patch_size": 8, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 32}
DECODER = {"decoder": DETR}
TASKS = {
    "detection": DECODER | {"classes": ["ant", "bee"]},
    "instances": DECODER | {"classes": ["ant", "bee"], "masks": {"stride": 4, "dim": 8}},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1, "classes": ["ant", "bee"], "things": []},
    "segmentation": {"classes": ["ant", "bee"]},
    "regression": {"targets": ["price", "share"], "mean": [5e4, 0.5], "std": [1e4, 0.1]},
}
# what of the raw outputs is moved, in each part, by how much
PARTS = {
    "detection": {"scores": lambda y: y[..., :2], "boxes": lambda y: y[..., 2:]},
    "instances": {"scores": lambda y: y[..., :2], "boxes": lambda y: y[..., 2:6], "masks": lambda y: y[..., 7:]},
    "panoptic": {"classes": lambda y: y[..., :3], "masks": lambda y: y[..., 4:]},
    "segmentation": {"outputs": lambda y: y},
    "regression": {"price": lambda y: y[:, 0], "share": lambda y: y[:, 1]},
}


def build(name):
    torch.manual_seed(0)
    module = registry.load("tasks", name)
    task = module.Task(from_dict(module.Config, {"model": MODEL, **TASKS[name]}))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Predictor(task, PreprocessConfig(size=(16, 24)), device="cpu")


def moved(runtime, change):
    """A runtime whose predictions are changed."""

    def read(path, precision):
        opened = runtime.read(path, precision)

        def run(images, output):
            found = opened.run(images, output).clone()
            if output == "outputs":
                change(found)
            return found

        return dataclasses.replace(opened, run=run)

    return dataclasses.replace(runtime, read=read)


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in PARTS.items() for part in parts])
def test_a_part_that_is_wrong_by_its_own_scale_is_found(name, part):
    task = build(name).task
    own = PARTS[name][part]
    with torch.inference_mode():
        outputs = {"outputs": task(torch.randn(2, 3, 16, 24))}
    assert {each.part for each in differences(task, outputs, outputs, "fp32")} == set(PARTS[name])
    for share in (1e-3, 1e-5):
        wrong = outputs["outputs"].clone()
        own(wrong).add_(share * own(wrong).abs().max())
        worst = max(differences(task, {"outputs": wrong}, outputs, "fp32"), key=lambda each: each.relative)
        assert worst.part == part or share < 1e-4
        assert worst.relative == pytest.approx(share, rel=0.3)


@pytest.mark.parametrize(("name", "part"), [("detection", "scores"), ("regression", "share")])
def test_an_engine_that_is_wrong_in_one_part_is_refused(name, part, monkeypatch):
    wrong = moved(onnxruntime.RUNTIME, lambda y: PARTS[name][part](y).mul_(1.001))
    monkeypatch.setattr(onnxruntime, "RUNTIME", wrong)
    with pytest.raises(
        UserError, match=f"'onnxruntime' in fp32 computes other {part} than the model, by .*e-0.* of the"
    ):
        build(name).running("onnxruntime")


def test_scores_that_are_wrong_by_a_twentieth_are_no_matter_of_pixels(monkeypatch, tmp_path):
    """0.05 is little beside boxes of 16 × 24 pixels, and less beside larger ones."""

    def change(outputs):
        outputs[..., :2] += 0.05

    predictor = build("detection")
    monkeypatch.setattr(onnxruntime, "RUNTIME", moved(onnxruntime.RUNTIME, change))
    with pytest.raises(UserError, match="the onnx file differs from the model in its scores by"):
        vitrail.export(predictor, tmp_path / "model.onnx", to="onnx")
    assert list(tmp_path.glob("*.onnx")) == []


def test_the_order_of_a_set_is_no_error():
    task = build("instances").task
    with torch.inference_mode():
        outputs = task(torch.randn(2, 3, 16, 24))
    shuffled = {"outputs": outputs[:, torch.tensor([2, 0, 3, 1])]}
    assert max(each.relative for each in differences(task, shuffled, {"outputs": outputs}, "fp32")) == 0
    missing = {"outputs": outputs[:, torch.tensor([0, 1, 2, 2])]}
    assert max(each.relative for each in differences(task, missing, {"outputs": outputs}, "fp32")) > 1e-3
    assert max(each.relative for each in differences(task, missing, {"outputs": outputs}, "bf16")) == 0
    other = build("panoptic").task
    with torch.inference_mode():
        outputs = other(torch.randn(2, 3, 16, 24))
    shuffled = {"outputs": outputs.flip(1)}
    assert max(each.relative for each in differences(other, shuffled, {"outputs": outputs}, "fp32")) > 1e-3


def test_no_number_and_another_shape_are_the_largest_errors():
    task = build("segmentation").task
    truth = {"outputs": torch.ones(1, 2, 4, 4)}
    for wrong in (torch.full((1, 2, 4, 4), math.nan), torch.ones(1, 2, 4, 5)):
        (found,) = differences(task, {"outputs": wrong}, truth, "fp32")
        assert found.relative == math.inf
    nothing = {"outputs": torch.zeros(1, 2, 4, 4)}
    assert differences(task, nothing, nothing, "fp32")[0].relative == 0


@pytest.fixture
def compared(monkeypatch):
    """The engines and precisions that were compared."""
    names, real = [], comparing.compare

    def count(name, engine, task, preprocess, precision):
        names.append((name, precision))
        return real(name, engine, task, preprocess, precision)

    monkeypatch.setattr(choose, "compare", count)
    return names


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_an_engine_is_compared_once(name, tiny_predictor, compared):
    predictor = tiny_predictor(**SIMPLE)
    for _ in range(2):
        predictor.running(name)
    assert compared == [(name, "fp32")]
    (entry,) = cache.folder().iterdir()
    known = json.loads((entry / "differences-fp32.json").read_text())
    assert set(known) == {"outputs", "embedding"}
    assert max(known.values()) < 1e-4
    (entry / "differences-fp32.json").unlink()
    predictor.running(name)
    assert compared == [(name, "fp32")] * 2
    if name != "onnxruntime":
        predictor.running(name, "bf16")
        predictor.running(name, "bf16")
        assert compared[2:] == [(name, "bf16")]
    torch.nn.init.ones_(predictor.task.head.output.bias)
    predictor.running(name)
    assert compared[-1] == (name, "fp32"), "another model"


def test_eager_is_the_truth(tiny_predictor, compared):
    for precision in ("fp32", "bf16"):
        tiny_predictor(**SIMPLE).running("eager", precision)
    assert compared == []


def test_a_verdict_is_remembered(tiny_predictor, compared, monkeypatch):
    predictor, honest = tiny_predictor(**SIMPLE), openvino.RUNTIME
    monkeypatch.setattr(openvino, "RUNTIME", moved(honest, lambda y: y.mul_(1.01)))
    for _ in range(2):
        with pytest.raises(UserError, match=r"'openvino' in fp32 computes other outputs than the model, by 1\.0e-02"):
            predictor.running("openvino")
    assert compared == [("openvino", "fp32")]
    monkeypatch.setattr(openvino, "RUNTIME", moved(honest, lambda y: 1 / 0))
    with pytest.raises(UserError, match=r"'openvino' cannot compute the model \(division by zero\); run it in eager"):
        predictor.running("openvino", "bf16")


def test_packed_weights_are_compared_too(tiny_predictor, monkeypatch):
    honest = PackedLinear.forward
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: honest(self, x) * 1.01)
    with pytest.raises(UserError, match="the engine 'torch' in fp32 computes other"):
        tiny_predictor(**SIMPLE).running("torch")


def test_bf16_has_its_own_tolerance(tiny_predictor, monkeypatch):
    predictor, honest = tiny_predictor(**SIMPLE), openvino.RUNTIME
    monkeypatch.setattr(openvino, "RUNTIME", moved(honest, lambda y: y.mul_(1.03)))
    predictor.running("openvino", "bf16")
    monkeypatch.setattr(openvino, "RUNTIME", moved(honest, lambda y: y.mul_(1.5)))
    torch.nn.init.ones_(predictor.task.head.output.bias)
    with pytest.raises(UserError, match=r"in bf16 computes other outputs than the model, by .* \(tolerance 0\.1\)"):
        predictor.running("openvino", "bf16")


def test_auto_falls_back(tiny_predictor, monkeypatch, capsys):
    monkeypatch.setattr(choose, "measure", lambda found, *_: {name: len(found) - i for i, name in enumerate(found)})
    monkeypatch.setattr(openvino, "RUNTIME", moved(openvino.RUNTIME, lambda y: y.mul_(1.01)))
    monkeypatch.setattr(onnxruntime, "RUNTIME", moved(onnxruntime.RUNTIME, lambda y: y.fill_(math.nan)))
    predictor = tiny_predictor(**SIMPLE)
    engine = start("auto", predictor.task, predictor.preprocess.config, "fp32")
    said = capsys.readouterr().err
    assert "engine auto: not openvino: the engine 'openvino' in fp32 computes other outputs than the model" in said
    assert "engine auto: not onnxruntime: the engine 'onnxruntime' in fp32 computes other outputs" in said
    assert "engine auto: torch" in said
    torch.testing.assert_close(engine(torch.zeros(1, 3, 16, 24)), predictor.task(torch.zeros(1, 3, 16, 24)))
