"""``vitrail compress`` and ``--merge`` as typed by a person."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vitrail import compress
from vitrail.cli import main
from vitrail.loading import load


@pytest.fixture
def classes(class_folder):
    return str(class_folder(4))


def test_a_curve_of_merging(weights, classes, tmp_path, capsys):
    out = tmp_path / "merged"
    command = ["compress", weights, classes, "--levels", "1,2", "--out", str(out), "--device", "cpu"]
    assert main([*command, "--pictures", "2"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["model", "tokens"]
    assert "top-1 accuracy" in header
    assert [row.split()[:2] for row in rows] == [["plain", "6"], ["r=1", "4"], ["r=2", "2"]]
    curve = json.loads((out / "curve.json").read_text())
    assert [point["name"] for point in curve["points"]] == ["plain", "r=1", "r=2"]
    assert curve["images"] == 16
    assert {path.name for path in out.iterdir()} == {"curve.json", "curve.png", "tokens.png"}
    with Image.open(out / "tokens.png") as drawn:
        assert drawn.width > 500
    assert main([*command, "--json", "--pictures", "0"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [point["metrics"] for point in again["points"]] == [point["metrics"] for point in curve["points"]]


def test_pruning_writes_models_that_load(weights, classes, tmp_path, capsys):
    out = tmp_path / "pruned"
    command = ["compress", weights, classes, "--method", "prune", "--levels", "0.5", "--set", "parts=units"]
    assert main([*command, "--split", "val", "--out", str(out), "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    small = load(out / "share-0.5.safetensors", device="cpu")
    assert small.task.vit.config.mlp_dim == 24
    assert small.task.vit.config.heads == 2
    assert small.metrics["top1"] == result["points"][1]["metrics"]["top1"]
    assert result["images"] == 4


@pytest.mark.parametrize("verb", ["predict", "embed", "evaluate"])
def test_verbs_merge(verb, weights, classes, tmp_path, capsys):
    merged = compress.apply(load(weights, device="cpu"), "tome", r=2)
    picture = f"{classes}/cat/1.png"
    if verb == "predict":
        assert main(["predict", weights, picture, "--merge", "2", "--json", "--device", "cpu"]) == 0
        (said,) = json.loads(capsys.readouterr().out)
        assert said["score"] == pytest.approx(merged.predict(picture).score, abs=1e-6)
        assert said["score"] != pytest.approx(load(weights, device="cpu").predict(picture).score, abs=1e-6)
    elif verb == "embed":
        out = tmp_path / "features.npz"
        assert main(["embed", weights, classes, "--merge", "2", "--out", str(out), "--device", "cpu"]) == 0
        with np.load(out) as stored:
            row = stored["name"].tolist().index(next(name for name in stored["name"] if name.endswith("cat/1.png")))
            np.testing.assert_allclose(stored["embedding"][row], merged.embed(picture), atol=1e-5)
    else:
        out = str(tmp_path / "out")
        assert main(["evaluate", weights, classes, "--merge", "2", "--out", out, "--device", "cpu"]) == 0
        assert (tmp_path / "out" / "classes-train-merge2.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", "{weights}"], "give DATA and --out FOLDER"),
        (["compress", "{weights}", "{classes}", "--levels", "few", "--out", "x"], "'few' names no levels"),
        (["compress", "{weights}", "{classes}", "--levels", "4", "--out", "x"], "at most half of its 6 patches"),
        (["compress", "{weights}", "{classes}", "--levels", "1.5", "--out", "x"], "setting 'r' = 1.5"),
        (["compress", "{weights}", "{classes}", "--method", "prone", "--out", "x"], "did you mean 'prune'?"),
        (["compress", "{weights}", "{classes}", "--split", "test", "--out", "x"], "no split 'test'"),
        (["compress", "{weights}", "{empty}", "--method", "prune", "--out", "x"], "empty"),
        (["predict", "{weights}", "{classes}", "--merge", "9"], "at most half of its 6 patches, not 9"),
        (["predict", "{weights}", "{classes}", "--merge", "-1"], "setting 'r' = -1"),
    ],
)
def test_mistakes_are_one_line(arguments, message, weights, classes, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"weights": weights, "classes": classes, "empty": tmp_path / "empty"}
    assert main([*(part.format(**places) for part in arguments), "--device", "cpu"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vitrail: error: ")
    assert message in error
