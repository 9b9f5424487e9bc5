"""Int8 files: integers inside, near the model, within the budget or plainly refused, and silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail import int8
from vitrail.cli import main
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.int8 import scores
from vitrail.int8.layers import layers as int8_layers

pytestmark = pytest.mark.usefixtures("exported_once")
NUM_LAYERS = 4  # of a block
OUT = ["model.onnx", "model.xml"]


@pytest.fixture
def images(request):
    """The same in every test: a model that is smoothed for them becomes the same program."""
    generator = torch.Generator().manual_seed(request.config.getoption("--draw"))
    return list(torch.randint(256, (12, 3, 20, 30), generator=generator, dtype=torch.uint8))


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    tiny_predictor(depth=1).save(tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


def num_matrices(layers):
    """Queries, keys and values are products of their own in a file."""
    return sum(3 if layer.endswith("qkv") else 1 for layer in layers)


def num_int8(path):
    """How many matrices of weights a file holds in 8 bits."""
    if path.suffix == ".onnx":
        import onnx

        tensors = onnx.load(path).graph.initializer
        return sum(each.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) and len(each.dims) > 1
                   and np.prod(each.dims) > 500 for each in tensors)  # fmt: skip
    from vitrail.engines.libraries import openvino_core as core

    constants = [op for op in core().read_model(path).get_ops() if op.get_type_name() == "Constant"]
    kinds = [(op.get_element_type().get_type_name(), int(np.prod(op.get_output_shape(0)))) for op in constants]
    return sum(kind in ("i8", "u8") and size > 500 for kind, size in kinds)


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("name", OUT)
def test_a_file_computes_in_int8_and_stays_near(name, weights_only, tiny_predictor, images, tmp_path):
    predictor = tiny_predictor(depth=1)
    result = int8.quantize(predictor, tmp_path / name, images, budget=100, weights_only=weights_only)
    assert result.layers == NUM_LAYERS
    assert result.kept == ()
    assert num_int8(result.path) == num_matrices(int8_layers(predictor.task))
    opened = vitrail.load(result.path)
    got, expected = opened.embed(images), predictor.embed(images)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < (0.03 if weights_only else 0.1)
    assert opened.metrics == {}, "what the weights reached is not what this file reaches"
    assert opened.predict(images[0]).label in predictor.classes
    assert vitrail.load(result.path, image_size=(32, 40)).embed(images[:2]).shape == (2, 32)
    assert result.rows[0].model == "fp32"
    assert all(row.milliseconds > 0 and row.megabytes > 0 for row in result.rows)
    assert result.rows[-1].megabytes < result.rows[0].megabytes
    ways = 2 if name == "model.xml" else 1
    assert len(result.rows) == 2 * ways


def fake(monkeypatch, losses):
    """Measurements in place of real ones: before, then each candidate."""
    found = iter([100.0, *(100 - loss for loss in losses), *([50.0] * 9)])
    monkeypatch.setattr(int8, "agreement", lambda task, images: scores.Score("faked", lambda engine: next(found)))


def test_the_noisiest_layers_go_back_until_the_budget_holds(tiny_predictor, images, tmp_path, monkeypatch, capsys):
    fake(monkeypatch, [9, 5, 0.5])
    result = int8.quantize(tiny_predictor(depth=1), tmp_path / "model.onnx", images, budget=1.0)
    worst = int8.worst_first(tiny_predictor(depth=1).task, [tiny_predictor(depth=1).tensor(image) for image in images])
    assert result.layers == NUM_LAYERS - 2
    assert len(result.kept) == 2
    assert set(result.kept) <= set(worst)
    assert num_int8(result.path) == num_matrices(set(worst) - set(result.kept))
    said = capsys.readouterr().err
    assert "4 of 4 layers in int8: 9.00 points lost" in said
    assert "2 of 4 layers in int8: 0.50 points lost" in said


def test_a_budget_that_cannot_hold_leaves_nothing(tiny_predictor, images, tmp_path, monkeypatch):
    fake(monkeypatch, [9, 8, 7])
    with pytest.raises(UserError, match=r"half of the layers in int8 still 7.00 points are lost, more than the budget"):
        int8.quantize(tiny_predictor(depth=1), tmp_path / "model.onnx", images, budget=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_measured(tiny_predictor, class_folder, images):
    predictor = tiny_predictor(depth=1)
    source = dict(open_source(SourceConfig(spec=str(class_folder(3)), val_fraction=0)).items())["train"]
    right = scores.accuracy(predictor.task, predictor.preprocess, source)
    labels = [predictor.classes.index(os.path.basename(os.path.dirname(source.name(i)))) for i in range(12)]

    def engine(batch):
        """Always the first class."""
        return torch.eye(4)[torch.tensor([0] * len(batch))]

    assert right.measure(engine) == pytest.approx(100 * np.mean(np.array(labels) == 0))
    tensors = [predictor.tensor(image) for image in images]
    same = scores.agreement(predictor.task, tensors)
    assert same.measure(predictor.task) == 100
    with torch.inference_mode():
        firsts = predictor.task(torch.cat(tensors)).argmax(1)
    assert same.measure(engine) == pytest.approx(100 * float((firsts == 0).double().mean()))
    with pytest.raises(UserError, match="of kind 'none'"):
        scores.accuracy(predictor.task, predictor.preprocess, source.unlabelled())


def test_a_task_without_classes_to_choose_is_held_against_its_features(tiny_predictor, images):
    predictor = tiny_predictor("regression", depth=1)
    tensors = [predictor.tensor(image) for image in images]
    score = scores.agreement(predictor.task, tensors)
    assert score.measure(predictor.task) == pytest.approx(100)
    other = tiny_predictor("regression", depth=1).task
    torch.nn.init.normal_(other.vit.blocks[0].mlp.fc2.weight)
    with torch.inference_mode():
        pair = [task.embed(torch.cat(tensors)) for task in (other, predictor.task)]
    expected = 100 * float(torch.nn.functional.cosine_similarity(*pair).mean())
    assert score.measure(other) == pytest.approx(expected)
    assert expected < 99


def test_the_verb(weights, class_folder, tmp_path, capsys):
    folder, out = str(class_folder(6)), tmp_path / "model.onnx"
    command = ["quantize", weights, str(out), folder, "--budget", "100"]
    assert main([*command, "--json"]) == 0
    said, err = capsys.readouterr()
    result = json.loads(said)
    assert result["measured"] == "top1 of 12 images"
    assert "calibrated on 12 images, measured on the labels of 12 others" in err
    assert [row["model"] for row in result["rows"]] == ["fp32", "int8"]
    assert main(["evaluate", str(out), folder, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert "top1" in json.loads(capsys.readouterr().out)["metrics"]
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_pictures_without_labels_are_compared(weights, tmp_path, capsys):
    (tmp_path / "loose").mkdir()
    for number in range(5):
        pixels = torch.randint(256, (20, 30, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "loose" / f"{number}.png")
    command = ["quantize", weights, str(tmp_path / "m.onnx"), str(tmp_path / "loose"), "--budget", "100"]
    assert main([*command, "--calibration", "3"]) == 0
    said, err = capsys.readouterr()
    assert "top1 as before of 3 images %" in said
    assert "calibrated on 3 images, measured on how far the outputs on them stay the same" in err


def test_what_cannot_be_quantised_is_said(weights, class_folder, tiny_predictor, images, tmp_path, capsys):
    folder = str(class_folder(2))
    vitrail.export(weights, tmp_path / "graph.onnx", to="onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = str(tmp_path / "m.onnx")
    for arguments, message in (
        ([weights, out], "have neither data nor a folder for results; give DATA"),
        ([weights, out, str(tmp_path / "empty")], "holds no images"),
        ([weights, out, str(tmp_path / "bad")], "cut.png"),
        ([weights, str(tmp_path / "m.pt2"), folder], "names no format that holds int8; end it with .onnx or .xml"),
        ([str(tmp_path / "graph.onnx"), out, folder], "cannot be looked into or converted; give the run"),
        ([weights, out, folder, "--budget", "-1"], "budget"),
        ([weights, out, folder, "--calibration", "0"], "calibration"),
        ([str(tmp_path / "nothing"), out, folder], "there is no run or weights file"),
    ):
        assert main(["quantize", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err.splitlines()[-1]
        assert "Traceback" not in err
    with pytest.raises(UserError, match="there are no calibration images; give some hundred"):
        int8.quantize(tiny_predictor(depth=1), out, [])
    assert not os.path.exists(out)


def test_a_missing_library_names_the_command(tiny_predictor, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match=r"needs nncf; run: pip install 'vitrail\[int8\]'"):
        int8.quantize(tiny_predictor(depth=1), tmp_path / "model.xml", images)


def test_the_libraries_tell_nobody(weights, tmp_path):
    """At export, at use and at quantisation: no connection, no file in the home folder, nothing on stdout.

    In this order in one process, since what a runtime would tell is decided when it is imported.
    """
    program = """
import socket, sys
def refuse(*arguments): raise SystemExit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import torch, vitrail
from exported_once import share
share()
def hidden():
    return not [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
for to, name in (("openvino", "model.xml"), ("onnx", "model.onnx")):
    vitrail.export(sys.argv[1], f"{sys.argv[2]}/plain/{name}", to=to)
vitrail.load(f"{sys.argv[2]}/plain/model.xml").engine(torch.randn(1, 3, 16, 24))
assert hidden()
from openvino.tools.ovc import telemetry
assert type(telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
images = [torch.randint(256, (3, 20, 30), dtype=torch.uint8) for _ in range(3)]
for only in (False, True):
    for name in ("model.xml", "model.onnx"):
        vitrail.quantize(vitrail.load(sys.argv[1], device="cpu"), f"{sys.argv[2]}/{only}/{name}", images, budget=100,
                         weights_only=only)
assert hidden()
from nncf.telemetry import telemetry
assert type(telemetry).__name__ == "MagicMock"
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "VITRAIL_CACHE")}
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-W", "error", "-c", program, weights, tmp_path]
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["False", "True", "home", "plain", "weights.safetensors"]
    assert (tmp_path / "plain" / "model.bin").exists()
