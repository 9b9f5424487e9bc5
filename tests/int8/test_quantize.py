"""Int8 files: integers inside, near the model, within the budget or plainly refused, and silent."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail import int8, registry
from vitrail.cli import main, quantize
from vitrail.config import from_dict
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.int8 import scores
from vitrail.int8.formats import onnxruntime
from vitrail.int8.layers import layers as int8_layers
from vitrail.machine import sums_of_int8_overflow
from vitrail.predictor import Predictor
from vitrail.tasks.detection import Detector

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


ROTARY = {
    "mixed": {"positions": "rope_2d", "rotary": {"mixed": True}, "block": {"order": "branch", "mlp_norm": True}},
    "with learned positions": {
        "rotary": {"reference": (2, 3)},
        "registers": 1,
        "block": {"mlp": "swiglu", "mlp_norm": True, "attention_norm": True, "key_bias": False},
    },
}


@pytest.mark.parametrize("kind", ROTARY)
def test_rotary_models_stay_near_at_any_size(kind, tiny_predictor, images, tmp_path):
    predictor = tiny_predictor(depth=1, **ROTARY[kind])
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


def test_numbers_are_compared_by_their_variance(tiny_predictor):
    predictor = tiny_predictor("regression", depth=1)
    tensors = [torch.randn(1, 3, 16, 24) for _ in range(6)]
    score = scores.agreement(predictor.task, tensors)
    assert score.name == "r2 as before of 6 images"
    assert score.measure(predictor.task) == pytest.approx(100)
    other = tiny_predictor("regression", depth=1).task
    torch.nn.init.normal_(other.vit.blocks[0].mlp.fc2.weight)
    with torch.inference_mode():
        found, expected = (task(torch.cat(tensors)).double() for task in (other, predictor.task))
    residual, spread = (found - expected).square().sum(0), (expected - expected.mean(0)).square().sum(0)
    assert score.measure(other) == pytest.approx(100 * float((1 - residual / spread).mean()), rel=1e-4)


def test_a_model_of_features_is_compared_by_their_direction(tiny_predictor):
    first, other = (build_task("features", std) for std in (0.1, 0.2))
    tensors = [torch.randn(1, 3, 16, 24) for _ in range(3)]
    score = scores.agreement(first, tensors)
    assert score.measure(first) == pytest.approx(100)
    with torch.inference_mode():
        pair = [task.embed(torch.cat(tensors)) for task in (other, first)]
    expected = 100 * float(torch.nn.functional.cosine_similarity(*pair).mean())
    assert score.measure(other) == pytest.approx(expected)
    assert expected < 99


MODEL = {"image_size": (16, 24), "patch_size": 8, "dim": 16, "depth": 1, "heads": 2, "mlp_dim": 32}
DECODER = {"decoder": {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "num_queries": 4}, "threshold": 0.4}
SPATIAL = {
    "features": {},
    "multilabel": {"classes": ["ant", "bee"]},
    "segmentation": {"classes": ["ant", "bee"]},
    "detection": DECODER | {"classes": ["ant", "bee"]},
    "instances": DECODER | {"classes": ["ant", "bee"], "masks": {"stride": 4, "dim": 8}},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1, "classes": ["ant", "bee"], "things": ["ant"],
                 "threshold": 0.3, "overlap_threshold": 0.1},
}  # fmt: skip


def build_task(name, std=0.2):
    module = registry.load("tasks", name)
    task = module.Task(from_dict(module.Config, {"model": MODEL, **SPATIAL[name]})).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    if name == "multilabel":  # some images have a class, others not
        task.head.output.bias.data = -task(torch.randn(9, 3, 16, 24, generator=generator)).mean(dim=0).detach()
    return task


def wrong(outputs, name):
    """Outputs whose features would be the same: each decoded part is made wrong by itself."""
    changed = outputs.clone()
    if name in ("multilabel", "segmentation"):
        yield -changed
    elif name == "panoptic":
        yield torch.cat((-changed[..., :3], changed[..., 3:]), dim=-1)
        yield torch.cat((changed[..., :4], -changed[..., 4:]), dim=-1)
    else:
        yield torch.cat((1 - changed[..., :2], changed[..., 2:]), dim=-1)
        if name == "instances":
            yield torch.cat((changed[..., :7], -changed[..., 7:]), dim=-1)
        else:
            yield torch.cat((changed[..., :2], changed[..., 2:] + 12), dim=-1)


@pytest.mark.parametrize("name", [name for name in SPATIAL if name != "features"])
def test_predictions_are_compared_after_they_are_decoded(name):
    """The decoder counts: an engine whose features are the model's and whose predictions are not is found out."""
    task = build_task(name)
    tensors = [torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(i)) for i in range(11)]
    with torch.inference_mode():
        all_outputs = task(torch.cat(tensors))
    if isinstance(task, Detector):  # half of what it could find is not found
        task.config = dataclasses.replace(task.config, threshold=all_outputs[..., :2].median().item())
    score = scores.agreement(task, tensors)
    assert score.name == f"{task.monitor} as before of 11 images"
    assert score.measure(task) == pytest.approx(100)
    for outputs in wrong(all_outputs, name):
        rows = iter(outputs.split(scores.BATCH))
        assert score.measure(lambda images, rows=rows: next(rows)) < 80


def test_what_finds_nothing_cannot_be_compared():
    task = build_task("detection")
    torch.nn.init.zeros_(task.head.weight)
    torch.nn.init.constant_(task.head.bias, -9)
    score = scores.agreement(task, [torch.randn(1, 3, 16, 24)])
    with pytest.raises(UserError, match="there is nothing in these images that ap could be measured on; give others"):
        score.measure(task)


def test_what_is_compared_on_was_not_calibrated_on(tiny_predictor, images, tmp_path, monkeypatch):
    """Every fourth image, or others that are given."""
    predictor = tiny_predictor(depth=1)
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
    out = int8.quantize(tiny_predictor(depth=1), tmp_path / "model.onnx", images, budget=100).path
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


@pytest.mark.parametrize(
    ("splits", "calibrated", "measured"),
    [
        (("train", "val", "test"), "train", "val"),
        (("train", "test"), "train", "train"),
        (("val", "test"), "val", "val"),
        (("test",), None, None),
    ],
)
def test_the_test_split_decides_nothing(splits, calibrated, measured, weights, tmp_path, capsys):
    folder = tmp_path / "data"
    for number, split in enumerate(splits):
        for label in ("ant", "bee", "cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(3):
                pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}{i}.png")
    predictor, config = vitrail.load(weights, device="cpu"), SourceConfig(spec=str(folder), val_fraction=0)
    if calibrated is None:
        with pytest.raises(UserError, match="the data has a test split alone, which must decide nothing; give other"):
            quantize._divided(predictor, config, 5)
        return
    images, labelled, others = quantize._divided(predictor, config, 5)
    used, held_out = {image.name for image in images}, {labelled.name(i) for i in range(len(labelled))}
    assert {Path(name).parts[-3] for name in used} == {calibrated}
    assert {Path(name).parts[-3] for name in held_out} == {measured}
    assert not used & held_out
    assert (len(images), len(labelled), others) == (5, 12 if calibrated != measured else 5, [])
    assert f"calibrated on 5 images, measured on the labels of {len(held_out)} others" in capsys.readouterr().err


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
    assert "top1 as before of 2 images %" in said
    assert "calibrated on 3 images, measured on how far predictions of 2 others change" in err


def test_what_cannot_be_quantised_is_said(weights, class_folder, tiny_predictor, images, tmp_path, capsys):
    folder = str(class_folder(2))
    vitrail.export(weights, tmp_path / "graph.onnx", to="onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("cut.png", "too.png"):
        (tmp_path / "bad" / name).write_bytes(b"\x89PNG\r\n\x1a\n")
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
