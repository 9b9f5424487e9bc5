"""The verbs on tasks that say where things are, from a folder of pictures to files of other tools."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import draw_scenes

from vitrail.cli import main
from vitrail.data import SourceConfig, open_source
from vitrail.data.media.decode import decode_map
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.loading import load

TINY = [
    *("--epochs", "1", "--batch-size", "4", "--device", "cpu", "--workers", "0", "--precision", "fp32", "--lr", "1e-3"),
    *("--set=model.dim=16", "--set=model.depth=1", "--set=model.heads=2", "--set=model.mlp_dim=16"),
    *("--set=model.patch_size=8", "--image-size", "32"),
]
DECODER = "{dim: 16, depth: 1, heads: 2, mlp_dim: 16, num_queries: 4}"
OPTIONS = {
    "detection": [f"--set=task_options.decoder={DECODER}", "--set=task_options.threshold=0.001"],
    "detection_tokens": [
        *("--set=task_options.num_queries=4", "--set=task_options.threshold=0.001"),
        *("--set=task_options.mid_positions=true", "--set=model.depth=2"),
    ],
    "detection_deformable": [
        f"--set=task_options.decoder={DECODER[:-1]}, reading_heads: 4, groups: 2}}",
        "--set=task_options.threshold=0.001",
    ],
    "instances": [
        f"--set=task_options.decoder={DECODER}",
        "--set=task_options.threshold=0.001",
        "--set=task_options.masks={stride: 4, dim: 8}",
    ],
    "segmentation": [],
}
KINDS = {
    "detection": "boxes",
    "detection_tokens": "boxes",
    "detection_deformable": "boxes",
    "instances": "masks",
    "segmentation": "semantic",
}
HEADLINES = {
    "detection": "AP at IoU 0.50",
    "detection_tokens": "AP at IoU 0.50",
    "detection_deformable": "AP at IoU 0.50",
    "instances": "AP of masks at IoU 0.50",
    "segmentation": "mean IoU",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def trained(request, scenes, tmp_path_factory):
    """A task and its run on ``scenes``."""
    task, run = request.param, tmp_path_factory.mktemp("runs") / request.param
    call = ["train", str(scenes), "--task", task, "--out", str(run), "--augment", "light"]
    assert main([*call, *TINY, *OPTIONS[task]]) == 0
    return task, run


def test_training_measuring_and_predicting(trained, scenes, here, capsys):
    task, run = trained
    config = (run / "config.yaml").read_text()
    assert f"kind: {KINDS[task]}" in config
    page = (run / "report.html").read_text()
    assert "truth next to prediction" in page
    assert HEADLINES[task] in page

    assert main(["evaluate", str(run), str(scenes), "--device", "cpu", "--out", "measured"]) == 0
    assert HEADLINES[task] in capsys.readouterr().out
    (table,) = Path("measured").glob("*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 12
    assert {"loss"} < set(rows[0])

    pictures = str(scenes / "JPEGImages")
    out = "found.json" if task != "segmentation" else "maps"
    assert main(["predict", str(run), pictures, "--device", "cpu", "--out", out, "--annotate", "drawn"]) == 0
    assert len(list(Path("drawn").iterdir())) == 12
    predictor = load(run, device="cpu")
    if task == "segmentation":
        assert json.loads(Path("maps/classes.json").read_text()) == list(predictor.classes)
        for name in ("00", "07"):
            found = predictor.predict(scenes / f"JPEGImages/{name}.png")
            np.testing.assert_array_equal(decode_map(Path(f"maps/{name}.png").read_bytes()), found.map)
        return
    read = open_source(SourceConfig(spec="found.json", val_fraction=0, kind=KINDS[task])).train
    assert read.classes == predictor.classes
    for index in range(len(read)):
        found, again = predictor.predict(read.name(index)), read.targets[index]
        np.testing.assert_allclose(again.boxes_xyxy.numpy(), found.boxes_xyxy, atol=1e-3)
        np.testing.assert_array_equal(again.labels.numpy(), found.labels)
        if task == "instances":
            np.testing.assert_array_equal(again.masks.numpy(), found.masks)


def _alike(in_a_batch: str, alone: str) -> bool:
    """The last digit written of a fraction may differ, and of a score more than one."""
    whole, point, digits = alone.partition(".")
    if not point or not whole.lstrip("-").isdigit():
        return in_a_batch == alone
    return float(in_a_batch) == pytest.approx(float(alone), rel=1e-4, abs=1.01 * 10.0 ** -len(digits))


def test_boxes_go_to_csv_and_yolo_and_nothing_is_overwritten(trained, scenes, here, capsys):
    task, run, pictures = trained[0], str(trained[1]), str(scenes / "JPEGImages")
    predictor = load(run, device="cpu")
    assert main(["predict", run, pictures, "--device", "cpu", "--out", "found.csv"]) == 0
    rows = list(csv.DictReader(Path("found.csv").read_text().splitlines()))
    first = scenes / "JPEGImages/00.png"
    own = [{k: v for k, v in row.items() if k != "path"} for row in rows if row["path"] == str(first)]
    alone = predictor.predict(first).rows()
    assert len(own) == len(alone)
    for ours, other in zip(own, alone, strict=True):
        assert ours.keys() == other.keys()
        assert all(_alike(ours[name], other[name]) for name in ours)
    if task == "detection":
        assert main(["predict", run, pictures, "--device", "cpu", "--out", "texts"]) == 0
        text = Path("texts/labels/00.txt").read_text()
        written, expected = (np.array(each.split(), float) for each in (text, predictor.predict(first).to_yolo()))
        np.testing.assert_allclose(written, expected, atol=2e-5)
        assert "names:" in Path("texts/data.yaml").read_text()
    capsys.readouterr()
    assert main(["predict", run, pictures, "--device", "cpu", "--out", "found.csv"]) == 2
    assert "found.csv is there already" in capsys.readouterr().err
    assert main(["predict", run, pictures, "--device", "cpu", "--out", "found.xml"]) == 2
    assert "names no format" in capsys.readouterr().err
    if task == "segmentation":
        assert main(["predict", run, pictures, "--device", "cpu", "--out", "found.json"]) == 2
        assert "cannot hold these predictions; choose a folder" in capsys.readouterr().err


def test_a_detector_starts_from_a_classifiers_backbone(tiny_predictor, scene_folder, here, capsys):
    tiny_predictor(pool="mean").save("model.safetensors")
    shape = TINY[: TINY.index("--set=model.dim=16")]
    call = ["train", str(scene_folder), "--task", "detection", "--init", "model.safetensors", "--no-report", *shape]
    assert main([*call, "--name", "finder", "--image-size", "32", *OPTIONS["detection"]]) == 0
    assert "backbone resized from (16, 24) pixels to (32, 32)" in capsys.readouterr().err
    predictor = load("runs/finder", device="cpu")
    assert predictor.classes == ("ant", "bee", "cat")
    assert predictor.preprocess.config.interpolation == "bicubic"  # as of the classifier, which sees a central crop


@pytest.mark.parametrize("task", [["--task", "detection"], ["--set=task=segmentation"], []])
def test_models_with_places_see_the_whole_image(tiny_predictor, scene_folder, here, monkeypatch, task):
    """A perfect detector of a central crop has an AP of 0.5."""
    runs = []
    monkeypatch.setattr("vitrail.train.loop.fit", lambda run, folder, **_: runs.append(run) or Ended)
    weights = tiny_predictor(pool="mean")
    weights.save("model.safetensors")
    call = ["train", str(scene_folder), "--init", "model.safetensors", "--no-report", "--image-size", "48"]
    assert main([*call, *task]) == 0
    assert main([*call, *task, "--set=data.preprocess.resize=crop"]) == 0
    whole, asked = (run.preprocess for run in runs)
    assert whole == dataclasses.replace(weights.preprocess.config, size=(48, 48), resize="square", crop_pct=1.0)
    assert Preprocess(whole).region((480, 640)) == (0, 0, 640, 480)
    assert asked.resize == "crop"  # an explicit value wins


def test_what_is_chosen_is_printed_with_its_reason(tiny_predictor, scene_folder, here, monkeypatch, capsys):
    runs = []
    monkeypatch.setattr("vitrail.train.loop.fit", lambda run, folder, **_: runs.append(run) or Ended)
    tiny_predictor(pool="mean").save("model.safetensors")
    call = ["train", str(scene_folder), "--task", "detection", "--init", "model.safetensors", "--no-report"]
    assert main([*call, "--epochs", "3", "--set=task_options.decoder.depth=2"]) == 0
    printed = capsys.readouterr().err
    run = runs[0]
    assert "data.loader.batch_size: 4 (" in printed
    assert "task_options.decoder: {dim: 96" in printed
    assert "epochs:" not in printed
    assert (run.epochs, run.data.loader.batch_size, run.optimizer.lr, run.optimizer.backbone_lr) == (3, 4, 4e-4, 0.25)
    assert (run.task_options["decoder"]["dim"], run.task_options["decoder"]["depth"]) == (96, 2)
    assert main([*call[:2], "--no-report"]) == 0  # from scratch, by the labels
    assert (runs[1].task, runs[1].optimizer.lr, runs[1].ema.decay) == ("detection", 1e-3, 0.998)


class Ended:
    exit_code = 0


def test_classes_do_not_go_where_boxes_do(tiny_predictor, here, capsys):
    tiny_predictor().save("model.safetensors")
    Image.new("RGB", (20, 20)).save("a.png")
    assert main(["predict", "model.safetensors", "a.png", "--device", "cpu", "--out", "found.json"]) == 2
    assert "choose --json or --csv" in capsys.readouterr().err
    assert not Path("found.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--task", "detection", "--set=data.source.kind=semantic"],
            "learns from boxes or masks labels and",
        ),
        (["--task", "classification"], "choose another --task"),
        (["--task", "detection", "--augment", "larg"], "did you mean 'large'"),
    ],
)
def test_what_does_not_go_together_is_said(scene_folder, here, capsys, arguments, words):
    assert main(["train", str(scene_folder), "--name", "bad", *TINY, *arguments]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
