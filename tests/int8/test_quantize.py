"""Int8 files: integers inside, near the model, within the budget or plainly refused, and silent."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from exported_once import SIMPLE

import vitrail
from vitrail import int8
from vitrail.errors import UserError
from vitrail.int8 import scores
from vitrail.int8.formats import onnxruntime
from vitrail.int8.layers import layers as int8_layers
from vitrail.machine import sums_of_int8_overflow
from vitrail.predictor import Predictor

pytestmark = pytest.mark.usefixtures("exported_once")
NUM_LAYERS = 4  # of a block
OUT = ["model.onnx", "model.xml"]


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
    predictor = tiny_predictor(**SIMPLE)
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


def test_a_rotary_model_stays_near_at_any_size(tiny_predictor, images, tmp_path):
    block = {"order": "branch", "mlp": "swiglu", "mlp_norm": True, "attention_norm": True, "key_bias": False}
    predictor = tiny_predictor(depth=1, positions="rope_2d", rotary={"mixed": True}, registers=1, block=block)
    result = int8.quantize(predictor, tmp_path / "model.onnx", images, budget=100, weights_only=True)
    assert result.layers == NUM_LAYERS
    for size in (None, (32, 40)):
        got = vitrail.load(result.path, image_size=size).embed(images)
        expected = Predictor(predictor.task, dataclasses.replace(predictor.preprocess.config, size=size or (16, 24)))
        expected = expected.embed(images)
        assert 1e-6 < np.abs(got - expected).max() / np.abs(expected).max() < 0.03


def fake(monkeypatch, losses):
    """Measurements in place of real ones: before, then each candidate."""
    found = iter([100.0, *(100 - loss for loss in losses), *([50.0] * 9)])
    monkeypatch.setattr(int8, "agreement", lambda task, images: scores.Score("faked", lambda engine: next(found)))


def test_the_noisiest_layers_go_back_until_the_budget_holds(tiny_predictor, images, tmp_path, monkeypatch, capsys):
    fake(monkeypatch, [9, 5, 0.5])
    result = int8.quantize(tiny_predictor(**SIMPLE), tmp_path / "model.onnx", images, budget=1.0)
    worst = int8.worst_first(
        tiny_predictor(**SIMPLE).task, [tiny_predictor(**SIMPLE).tensor(image) for image in images]
    )
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
        int8.quantize(tiny_predictor(**SIMPLE), tmp_path / "model.onnx", images, budget=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_compared_on_was_not_calibrated_on(tiny_predictor, images, tmp_path, monkeypatch):
    """Every fourth image, or others that are given."""
    predictor = tiny_predictor(**SIMPLE)
    calibrated, compared = [], []

    def written(plain, out, layers, images, *, seven_bits):
        calibrated.extend(images)
        out.write_bytes(plain.read_bytes())

    def agreement(task, images):
        compared.extend(images)
        return scores.Score("faked", lambda engine: 100.0)

    monkeypatch.setattr(int8, "agreement", agreement)
    monkeypatch.setattr(onnxruntime, "FORMAT", dataclasses.replace(onnxruntime.FORMAT, write=written))
    tensors = [predictor.tensor(image) for image in images]
    for others, wanted in (((), [1, 5, 9]), (images[:2], [0, 1])):
        calibrated.clear()
        compared.clear()
        given = images[2:] if others else images
        int8.quantize(predictor, tmp_path / f"{len(others)}.onnx", given, others=others)
        assert [next(i for i, t in enumerate(tensors) if torch.equal(t, each)) for each in compared] == wanted
        assert [next(i for i, t in enumerate(tensors) if torch.equal(t, each)) for each in calibrated] == [
            i for i in range(12) if i not in wanted
        ]
    with pytest.raises(UserError, match="one image cannot both be calibrated on and compared on; give two"):
        int8.quantize(predictor, tmp_path / "one.onnx", images[:1])


@pytest.mark.parametrize("missing", [False, True])
def test_weights_have_seven_bits_where_sums_overflow(missing, tiny_predictor, images, tmp_path, monkeypatch, capsys):
    import onnx
    from onnx import numpy_helper

    monkeypatch.setattr(int8, "sums_of_int8_overflow", lambda: missing)
    out = int8.quantize(tiny_predictor(**SIMPLE), tmp_path / "model.onnx", images, budget=100).path
    tensors = [each for each in onnx.load(out).graph.initializer if each.data_type == onnx.TensorProto.INT8]
    largest = max(int(np.abs(numpy_helper.to_array(each).astype(int)).max()) for each in tensors if len(each.dims) == 2)
    assert largest == (64 if missing else 127)
    assert ("this processor has no VNNI: weights have 7 bits" in capsys.readouterr().err) == missing


@pytest.mark.parametrize(
    ("text", "overflow"),
    [
        ("processor : 0\nflags : fpu sse4_2 avx2\nbugs : x", True),
        ("flags\t\t: fpu avx512f avx512bw", True),
        ("flags\t\t: fpu avx2 avx_vnni", False),
        ("flags : avx512f avx512_vnni", False),
        ("flags : amx_int8", False),
        ("Features : fp asimd asimddp", False),
        (None, False),
    ],
)
def test_processors(text, overflow, tmp_path):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert sums_of_int8_overflow(tmp_path / "cpuinfo") == overflow


def test_a_missing_library_names_the_command(tiny_predictor, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match=r"needs nncf; run: pip install 'vitrail\[int8\]'"):
        int8.quantize(tiny_predictor(**SIMPLE), tmp_path / "model.xml", images)


def test_the_libraries_tell_nobody_and_leave_signals_alone(weights, tmp_path):
    """At export, at use and at quantisation: no connection, no file in the home folder, nothing on stdout; and a signal
    is handled afterwards.

    In this order in one process, since what a runtime would tell is decided when it is imported.
    """
    program = """
import signal, socket, sys
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
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "VITRAIL_CACHE")}
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", program, weights, tmp_path]
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "handled\n"
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["False", "True", "home", "plain", "weights.safetensors"]
    assert (tmp_path / "plain" / "model.bin").exists()
