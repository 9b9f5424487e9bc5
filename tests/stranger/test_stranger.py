"""A package outside of Vitrail adds a target kind, a source, a task, metrics, a report family and a dialect: every
command works on them. ``docs/extending.md`` explains the package."""

from __future__ import annotations

import csv
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail import registry
from vitrail.cli import main

ROOT = Path(__file__).resolve().parents[2]
RUN, SCENES, IMAGE = "runs/depth", "depthkit.folder:scenes", "scenes/test/images/00.png"
pytestmark = pytest.mark.usefixtures("house", "exported_once")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``run(*arguments, code=0)`` runs a command and returns what it printed: results, or the error if it is one."""

    def command(*arguments: str, code: int = 0) -> str:
        ended = main(list(arguments))
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.err if code else printed.out

    return command


def predicted(text: str) -> dict[str, float]:
    (found,) = json.loads(text)
    return {name: found[name] for name in ("nearest", "mean", "farthest")}


def test_data_is_checked_measured_and_drawn(run: Callable[..., str]) -> None:
    assert "43 train, 5 val, 12 test: 0 bad" in run("data", "check", SCENES)
    stats = json.loads(run("data", "stats", SCENES, "--json"))
    assert stats["train"]["targets"]["depth"][3] == pytest.approx(6)
    run("data", "inspect", SCENES, "--out", "drawn", "--limit", "2")
    assert len(list(Path("drawn").iterdir())) == 2


def test_a_bad_depth_map_is_named(run: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "depths").mkdir()
    for name, depths in (("small", np.ones((4, 4))), ("negative", -np.ones((8, 8))), ("absent", None)):
        Image.new("L", (8, 8), len(name)).save(tmp_path / "images" / f"{name}.png")
        if depths is not None:
            np.save(tmp_path / "depths" / f"{name}.npy", depths)
    assert main(["data", "check", f"depthkit.folder:{tmp_path}", "--set", "val_fraction=0"]) == 2
    text = capsys.readouterr().out
    assert "and its depth map has 4 × 4" in text
    assert "negative or not finite" in text
    assert "has no depth map" in text
    assert "there is no folder" in run("data", "check", "depthkit.folder:nowhere", code=2)


def test_training_logged_and_resumes(run: Callable[..., str]) -> None:
    rows = list(csv.DictReader((Path(RUN) / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["val_delta1"]) > float(rows[0]["val_delta1"])
    assert len((Path(RUN) / "diary.txt").read_text().splitlines()) == 6
    run("train", "--resume", RUN, "--epochs", "7", "--no-report")
    assert (Path(RUN) / "diary.txt").read_text().splitlines()[-1].startswith("epoch 7: loss ")
    refused = run("train", SCENES, "--epochs", "1", code=2)
    assert "no task of Vitrail learns from data of kind 'depthkit.maps'; name the module of one with --task" in refused


def test_evaluation_and_report(run: Callable[..., str]) -> None:
    assert re.search(r"δ < 1\.25 +\d\d\.\d\d%", run("evaluate", RUN))
    metrics = json.loads((Path(RUN) / "evaluation" / "test.json").read_text())["metrics"]
    assert metrics["delta1"] > 0.6
    run("report", RUN)
    page = (Path(RUN) / "report.html").read_text()
    for words in ("Depth on", "relative error", "truth next to prediction", "depthkit.depth"):
        assert words in page
    assert "relative error" in (Path(RUN) / "model_card.md").read_text()


def test_predictions_in_every_form(run: Callable[..., str]) -> None:
    depths = vitrail.load(RUN).predict(IMAGE).depths
    assert predicted(run("predict", RUN, IMAGE, "--json"))["mean"] == pytest.approx(float(depths.mean()))
    assert "path,nearest,mean,farthest" in run("predict", RUN, IMAGE, "--csv")
    run("predict", RUN, IMAGE, "--out", "maps", "--annotate", "annotated")
    with Image.open("maps/00.png") as map_, Image.open("annotated/00.jpg") as drawn:
        np.testing.assert_allclose(np.asarray(map_) / 1000, depths, atol=6e-4)
        assert drawn.size == (32, 32)


def test_explanations(run: Callable[..., str]) -> None:
    run("explain", RUN, IMAGE, "--each", "--out", "explained")
    drawn = {each.name for each in Path("explained").iterdir()}
    assert "00-sheet.png" in drawn
    assert any(name.startswith("00-grad-cam-for-") for name in drawn)
    run("explain", RUN, IMAGE, "--method", "depthkit.occlusion", "--set", "fill=-1", "--out", "covered")
    assert Path("covered/00-occlusion.png").is_file()


@pytest.mark.parametrize(("format", "suffix"), [("onnx", "onnx"), ("openvino", "xml")])
def test_exported_files_predict_the_same(format: str, suffix: str, run: Callable[..., str]) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    run("export", RUN, f"depth.{suffix}", "--to", format)
    expected = predicted(run("predict", RUN, IMAGE, "--json"))
    assert predicted(run("predict", f"depth.{suffix}", IMAGE, "--json")) == pytest.approx(expected, rel=1e-4)


def test_weights_in_the_packages_own_dialect(run: Callable[..., str]) -> None:
    run("convert", RUN, "theirs", "--to", "depthkit")
    assert '"dialect": "depthkit.weights"' in run("inspect", "theirs", "--json")
    run("convert", "theirs", "ours", "--to", "native")
    first, again = (vitrail.load(each).task.state_dict() for each in (RUN, "ours"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert "timm has no format for the task 'depthkit.depth'" in run("convert", RUN, "timm", "--to", "timm", code=2)


def test_smaller_models(run: Callable[..., str]) -> None:
    pytest.importorskip("onnxruntime")
    small = ["--weights-only", "--calibration", "4", "--budget", "5"]
    assert "delta1 of 5 images" in run("quantize", RUN, "int8.onnx", *small)
    assert "δ < 1.25" in run("compress", RUN, "--method", "prune", "--levels", "0.5", "--out", "pruned")
    assert "a probe needs one class label for each image" in run("probe", RUN, SCENES, code=2)


def test_a_server_answers_in_both_protocols(programs: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    command = [str(programs / "vitrail"), "serve", RUN, "--port", "0", "--device", "cpu"]
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            address = _address(log, process)
            data = Path(IMAGE).read_bytes()
            answer = _post(f"{address}/v1/predict", data, "image/png")["predictions"][0]
            expected = vitrail.load(RUN).predict(IMAGE)
            assert answer["mean"] == pytest.approx(expected.to_dict()["mean"], rel=1e-4)
            assert answer["map"]
            with Image.open(IMAGE) as image:
                pixels = np.asarray(image).reshape(-1).tolist()
            tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 32, 32], "data": pixels}
            body = json.dumps({"inputs": [tensor]}).encode()
            (output,) = _post(f"{address}/v2/models/depth/infer", body, "application/json")["outputs"]
            assert json.loads(output["data"][0])["mean"] == pytest.approx(answer["mean"], rel=1e-4)
        finally:
            process.terminate()
    assert "Traceback" not in log.read_text()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 90
    while not (found := re.search(r"serving at (\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return found[1]


def _post(url: str, data: bytes, kind: str) -> dict[str, object]:
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_file_imports_only_what_an_installed_package_lists(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "depthkit.depth")
    with monkeypatch.context() as patch:
        patch.setattr(
            sys, "path", [each for each in sys.path if each != str(house / "site")]
        )  # importable, not installed
        with pytest.raises(vitrail.UserError, match="import its module first, or install its package"):
            vitrail.load(RUN)
        with pytest.raises(vitrail.UserError, match=r"an entry point of vitrail\.plugins"):
            registry.refuse_foreign(["depthkit.depth"], "config.yaml")
    assert "depthkit.depth" not in sys.modules
    assert vitrail.load(RUN).task.name == "depthkit.depth"
    with pytest.raises(vitrail.UserError, match=r"depthkit\.nothing"):
        registry.refuse_foreign(["depthkit.nothing"], "config.yaml")


@pytest.fixture
def contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The tests that every task of the repository passes, with targets of the package's kind."""
    spec = importlib.util.spec_from_file_location("contract", ROOT / "tests" / "tasks" / "test_contract.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    depths = np.random.default_rng(0).uniform(1, 5, (4, 16, 16)).astype(np.float32)
    monkeypatch.setitem(module.TARGETS, "depthkit.maps", depths)
    monkeypatch.setattr(module, "NAMES", ("depth",))
    return module


def test_the_task_keeps_the_contract_of_tasks(contract: object) -> None:
    checks = [check for check in vars(contract).values() if contract.tasks.mark in getattr(check, "pytestmark", ())]
    assert len(checks) > 10
    for check in checks:
        for border in ({"border": 0}, {"border": 8}) if "border" in inspect.signature(check).parameters else ({},):
            check("depthkit.depth", **border)


def test_the_page_shows_the_packages_files() -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    shown = dict(re.findall(r"^```\w+ title=(\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    package = Path(__file__).parent / "package"
    files = [each for each in package.rglob("*.[pt]*") if each.is_file() and "__" not in str(each)]
    assert shown == {str(each.relative_to(package)): each.read_text() for each in files}
