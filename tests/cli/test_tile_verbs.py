"""Training, measuring and predicting tile by tile, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail import registry
from vitrail.checkpoints import native
from vitrail.cli import main
from vitrail.data import PreprocessConfig
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.predictor import Predictor
from vitrail.serve.worker import describe
from vitrail.vit import ViTConfig

TINY = [
    *("--epochs", "1", "--batch-size", "4", "--device", "cpu", "--workers", "0", "--precision", "fp32", "--lr", "1e-3"),
    *("--set=model.dim=16", "--set=model.depth=1", "--set=model.heads=2", "--set=model.mlp_dim=16"),
    "--set=model.patch_size=8",
]
OPTIONS = {
    "detection": [
        "--set=task_options.decoder={dim: 16, depth: 1, heads: 2, mlp_dim: 16, num_queries: 4}",
        "--set=task_options.threshold=0.001",
    ],
    "segmentation": ["--no-report"],
}


@pytest.mark.parametrize("task", OPTIONS)
def test_a_training_on_tiles_says_what_it_does_and_its_weights_predict_so(
    task, scene_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    call = ["train", str(scene_folder), "--task", task, "--name", "tiles", "--tile", "24", *TINY, *OPTIONS[task]]
    assert main([*call, "--overlap", "0.25"]) == 0
    said = capsys.readouterr().err
    assert "model.image_size: [24, 24] (a tile, pixel by pixel)" in said
    assert (
        "tiles: random ones of 24 × 24 pixels in training, 80% around an object, 20% background if there is any "
        "(data.tiles.background); cut objects count from 25% of their box on (data.tiles.visible); validation and "
        "prediction by all tiles, which overlap by 25%, merged"
    ) in said
    meta = native.read_meta(Path("runs/tiles/weights/last.safetensors"))["preprocess"]
    assert (meta["size"], meta["tiles"]) == ([24, 24], {"size": [24, 24], "overlap": 0.25, "align": 1, "blend": True})
    if task == "detection":
        assert "truth next to prediction" in Path("runs/tiles/report.html").read_text()

    pictures = str(scene_folder / "JPEGImages")
    assert main(["predict", "runs/tiles", pictures, "--device", "cpu", "--json"]) == 0
    out, said = capsys.readouterr()
    assert "tiles of 24 × 24 pixels, overlapping by 25%, each shown to the model as 24 × 24, merged, as in" in said
    predictor = load("runs/tiles", device="cpu")
    for row in json.loads(out):
        found = predictor.predict(row["path"])
        assert row["size"] == list(found.size)
        if task == "detection":
            boxes = [each["box_xyxy"] for each in row["objects"]]
            np.testing.assert_allclose(boxes, found.boxes_xyxy, atol=1e-2)

    evaluate = [
        "evaluate",
        "runs/tiles",
        str(scene_folder),
        "--device",
        "cpu",
        "--out",
        "measured",
        "--batch-size",
        "4",
    ]
    assert main(evaluate) == 0
    assert main([*evaluate, "--tile", "16"]) == 0
    assert main([*evaluate, "--tile", "none"]) == 0
    assert {path.stem.partition("-train")[2] for path in Path("measured").glob("*.csv")} == {"", "-tile16", "-tilenone"}
    for table in Path("measured").glob("*.csv"):
        assert len(list(csv.DictReader(table.read_text().splitlines()))) == 12

    with pytest.raises(UserError, match=r"predicts pictures tile by tile, which a server does not; serve what "):
        describe("tiles", predictor)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile", "none"], None),
        (["--tile", "none", "--overlap", "0.2"], "--overlap is that of tiles; give --tile too"),
        (["--tile", "24", "--overlap", "1"], "overlap"),
        (["--tile", "4"], "tiles: one of 4×4 pixels is not covered by patches of 8×8; choose 8×8"),
        (["--tile", "20"], "tiles: one of 20×20 pixels is not covered by patches of 8×8; choose"),
        (["--tile", "big"], "'big' is no size in pixels"),
        (["--tile", "24"], "the task 'classification' cannot predict tile by tile; leave the tiles out"),
        (["--overlap", "0.3"], "--overlap is that of tiles; give --tile too"),
    ],
)
def test_mistakes_are_one_line(arguments, words, photos, tmp_path, capsys):
    name = "classification" if words is None or "classification" in words else "segmentation"
    weights, module = str(tmp_path / "weights.safetensors"), registry.load("tasks", name)
    model = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    task = module.Task(module.Task.configure(model, ("ant", "bee"), None, {}))
    Predictor(task, PreprocessConfig(size=16), device="cpu").save(weights)
    assert main(["predict", weights, str(photos), "--device", "cpu", *arguments]) == (0 if words is None else 2)
    said = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(said) == (words is not None)
    assert words is None or words in said[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile", "20"], "20×20 pixels is not covered by patches of 8×8"),
        (["--tile", "24", "--overlap", "1"], "overlap"),
        (["--overlap", "0.2"], "data.preprocess.tiles.size"),
    ],
)
def test_mistakes_of_a_training_lose_nothing(arguments, words, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call = ["train", str(scene_folder), "--task", "detection", "--name", "tiles", *TINY, *OPTIONS["detection"]]
    assert main([*call, *arguments]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(said) == 1
    assert words in said[0]


def test_labels_without_places_are_refused(class_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(class_folder(3)), "--name", "tiles", "--tile", "24", *TINY]) == 2
    assert "the task 'classification' cannot predict tile by tile; leave the tiles out" in capsys.readouterr().err


def test_segments_are_trained_measured_and_predicted_by_tiles(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [
        "--set=task_options.num_queries=8",
        "--set=task_options.num_blocks=1",
        "--set=task_options.threshold=0.05",
    ]
    few = ["--set=data.source.train_fraction=0.005", "--no-report", *options]
    call = ["train", "digit_scenes_panoptic", "--task", "panoptic", "--name", "tiles", "--tile", "32", *TINY, *few]
    assert main(call) == 0
    assert "around an object" in capsys.readouterr().err
    noise = np.random.default_rng(0).integers(0, 256, (64, 90), np.uint8)
    Path("pictures").mkdir()
    Image.fromarray(noise).save("pictures/noise.png")
    assert main(["predict", "runs/tiles", "pictures", "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    predictor = load("runs/tiles", device="cpu")
    assert [row["segments"] for row in rows] == [predictor.predict(row["path"]).segments for row in rows]
    assert [row["size"] for row in rows] == [[64, 90]]
