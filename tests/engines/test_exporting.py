"""Exported files: compared before they appear, self-contained, silent, and refused where they are not ours."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from exported_once import SIMPLE
from PIL import Image

import vitrail
from vitrail import compress
from vitrail.cli import main
from vitrail.engines.runtimes import onnxruntime as ort_engine
from vitrail.errors import UserError
from vitrail.explain import explain

pytestmark = pytest.mark.usefixtures("exported_once")
OUT = {"onnx": "model.onnx", "openvino": "model.xml", "pt2": "model.pt2"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder for the files of one model, each written when first asked for."""
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def weights(tiny_predictor, tmp_path):
    tiny_predictor(**SIMPLE).save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def export(exported, weights):
    """``export(format)``: the file."""

    def write(to):
        if not (exported / OUT[to]).exists():
            vitrail.export(weights, exported / OUT[to], to=to)
        return exported / OUT[to]

    return write


def test_the_verb_prints_errors_and_speed(weights, photo, tmp_path, capsys):
    out = tmp_path / "new" / "model.onnx"
    assert main(["export", str(weights), str(out), "--to", "onnx", "--images", photo, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["path"] == str(out)
    assert [(row["images"], row["batch"], row["size"]) for row in said["rows"]] == [
        ("random", 1, [16, 24]),
        ("random", 4, [16, 24]),
        ("random", 1, [24, 40]),
        ("random", 4, [24, 40]),
        ("given", 1, [16, 24]),
    ]
    for row in said["rows"]:
        assert 0 <= row["relative_error"] < 1e-5
        assert row["eager"] > 0
        assert row["engine"] > 0
    assert sorted(out.parent.iterdir()) == [out]
    assert main(["export", str(weights), str(out), "--to", "onnx"]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("to", OUT)
def test_a_file_is_a_model(to, export, weights, photo, capsys):
    path = export(to)
    with_pickle = ["--allow-pickle"] if to == "pt2" else []
    if with_pickle:
        assert main(["predict", str(path), photo]) == 2
        assert "can run code when it is opened" in capsys.readouterr().err
    assert main(["predict", str(path), photo, "--json", *with_pickle]) == 0
    said = json.loads(capsys.readouterr().out)[0]
    expected = vitrail.load(weights, device="cpu")
    assert said["label"] == expected.predict(photo).label
    assert said["score"] == pytest.approx(expected.predict(photo).score, rel=1e-5)
    opened = vitrail.load(path, allow_pickle=True)
    assert opened.classes == expected.classes
    assert opened.preprocess.config == expected.preprocess.config
    np.testing.assert_allclose(opened.embed([photo] * 3), expected.embed([photo] * 3), rtol=1e-4, atol=1e-5)
    larger = vitrail.load(path, image_size=(32, 40), allow_pickle=True).predict(photo)
    again = vitrail.load(weights, image_size=(32, 40), device="cpu").predict(photo)
    np.testing.assert_allclose(larger.probabilities, again.probabilities, rtol=1e-4, atol=1e-6)


def test_a_file_is_measured_as_the_model_is(export, weights, tmp_path, capsys):
    for label in ("ant", "bee", "cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            pixels = torch.randint(256, (30, 40, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    found = []
    for model, *options in (
        [export("onnx")],
        [weights, "--device", "cpu"],
        [weights, "--engine", "torch", "--precision", "bf16"],
    ):
        call = ["evaluate", str(model), str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--json", *options]
        assert main(call) == 0
        found.append(json.loads(capsys.readouterr().out)["metrics"])
    for name, value in found[1].items():
        assert found[0][name] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert found[2]["loss"] == pytest.approx(found[1]["loss"], rel=0.05)
    assert found[2]["loss"] != found[1]["loss"]


def test_what_a_graph_cannot_do_is_said(export, photo, tmp_path, capsys):
    path = export("onnx")
    for arguments, message in (
        (["predict", str(path), photo, "--image-size", "17"], "is not covered by patches"),
        (["predict", str(path), photo, "--engine", "openvino"], "runs in onnxruntime on the CPU"),
        (["predict", str(path), photo, "--precision", "bf16"], "has no precision 'bf16'"),
        (["predict", str(path), photo, "--patch-size", "4"], "leave out engine, device and patch size"),
        (["explain", str(path), photo, "--out", str(tmp_path)], "cannot be looked into"),
        (["convert", str(path), str(tmp_path / "hf"), "--to", "timm"], "cannot be looked into or converted"),
        (["export", str(path), str(tmp_path / "m.xml"), "--to", "openvino"], "cannot be looked into or converted"),
        (["predict", str(tmp_path / "no.onnx"), photo], "there is no file"),
        (["export", "no-run", "m.onnx", "--to", "onx"], "unknown format 'onx'; did you mean 'onnx'?"),
        (["export", "no-run", "m.onnx", "--to", "onnx"], "there is no run or weights file"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert message in err.splitlines()[-1]
    with pytest.raises(UserError, match="cannot be looked into"):
        explain(vitrail.load(path).task, torch.randn(1, 3, 16, 24))


def test_an_export_that_disagrees_leaves_nothing(weights, tmp_path, monkeypatch):
    honest = ort_engine.RUNTIME

    def wrong(path, precision):
        opened = honest.read(path, precision)
        return type(opened)(opened.meta, lambda images, output: opened.run(images, output) * 1.001)

    monkeypatch.setattr(ort_engine, "RUNTIME", dataclasses.replace(honest, read=wrong))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"differs from the model in its \w+ by 1\.0e-03 of the largest \(tol"):
        vitrail.export(weights, tmp_path / "model.onnx", to="onnx")
    assert sorted(tmp_path.iterdir()) == before


def test_merged_tokens_are_part_of_the_file(weights, photo, tmp_path, capsys):
    file = tmp_path / "merged.onnx"
    assert main(["export", str(weights), str(file), "--to", "onnx", "--merge", "2"]) == 0
    assert "images of 16×24 pixels only: its encoder is a ReducedViT" in capsys.readouterr().err
    expected = compress.apply(vitrail.load(weights, device="cpu"), "tome", r=2).predict(photo)
    np.testing.assert_allclose(vitrail.load(file).predict(photo).probabilities, expected.probabilities, atol=1e-5)
    assert main(["export", str(weights), str(tmp_path / "merged"), "--to", "huggingface", "--merge", "2"]) == 2
    assert "written from a file's weights, not from a model in memory" in capsys.readouterr().err


@pytest.mark.parametrize("option", [{"image_size": 32}, {"patch_size": 4}, {"allow_pickle": True}])
def test_what_is_asked_of_a_loaded_model_too_late_is_refused(weights, tmp_path, option):
    with pytest.raises(UserError, match=r"loaded already; give its sizes, names and allow_pickle to vitrail\.load"):
        vitrail.export(vitrail.load(weights, device="cpu"), tmp_path / "model.onnx", to="onnx", **option)
    assert not (tmp_path / "model.onnx").exists()


def test_other_libraries_get_what_convert_writes(weights, tmp_path):
    result = vitrail.export(weights, tmp_path / "export", to="native")
    again = vitrail.convert(weights, tmp_path / "convert", to="native")
    assert result.path.read_bytes() == again.read_bytes()
    assert result.rows == ()


@pytest.mark.parametrize("name", OUT.values())
@pytest.mark.parametrize("content", [b"", b"<html>no model</html>", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_model_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="write it again with `vitrail export`"):
        vitrail.load(tmp_path / name, allow_pickle=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: "not JSON",
        lambda m: "[]",
        lambda m: json.dumps(m | {"version": 99}),
        lambda m: json.dumps(m | {"size": 5}),
        lambda m: json.dumps(m | {"task": "os.system"}),
    ],
)
def test_a_strange_meta_is_refused(spoil, export, tmp_path):
    import onnx

    model = onnx.load(export("onnx"))
    (entry,) = (p for p in model.metadata_props if p.key == "vitrail")
    declared = json.loads(entry.value)
    entry.value = spoil(declared)
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(UserError):
        vitrail.load(tmp_path / "strange.onnx")
    entry.value = json.dumps(declared | {"version": 2})
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(
        UserError, match=r"newer\.onnx has format version 2, and Vitrail .* reads up to 1; upgrade vitrail"
    ):
        vitrail.load(tmp_path / "newer.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="does not declare what its outputs mean"):
        vitrail.load(tmp_path / "foreign.onnx")


def test_stock_runtimes_open_the_files_without_us(export, weights):
    images = torch.randn(2, 3, 24, 32)
    with torch.inference_mode():
        expected = vitrail.load(weights, device="cpu").task(images).numpy()
    program = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["vitrail"] = sys.modules["torch"] = sys.modules["openvino_telemetry"] = None
import numpy as np, onnxruntime, openvino
images = np.load(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2])
model = openvino.Core().compile_model(sys.argv[3], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.savez(sys.argv[4], session.run(["outputs"], {"images": images})[0], model(images)["outputs"])
"""
    folder = export("onnx").parent
    np.save(folder / "images.npy", images.numpy())
    call = [
        sys.executable,
        "-c",
        program,
        folder / "images.npy",
        export("onnx"),
        export("openvino"),
        folder / "out.npz",
    ]
    subprocess.run(call, check=True, timeout=120)
    with np.load(folder / "out.npz") as found:
        for name in found.files:
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
