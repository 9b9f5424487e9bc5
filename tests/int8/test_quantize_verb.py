"""``vitrail quantize``: which images it calibrates on and measures, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_once import SIMPLE
from PIL import Image

import vitrail
from vitrail import int8
from vitrail.cli import main, quantize
from vitrail.data.source import SourceConfig
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("exported_once")


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
        int8.quantize(tiny_predictor(**SIMPLE), out, [])
    assert not os.path.exists(out)
