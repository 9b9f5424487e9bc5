"""Every verb on panoptic segmentation, from COCO's files on; exported ones: tests/test_same_prediction.py."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from vitrail.cli import main
from vitrail.data import SourceConfig, open_source
from vitrail.data.inspection.convert import convert
from vitrail.data.source import Splits
from vitrail.tasks.panoptic import Prediction

TINY = [
    *("--epochs", "1", "--batch-size", "4", "--device", "cpu", "--workers", "0", "--precision", "fp32", "--lr", "1e-3"),
    *("--set=model.dim=16", "--set=model.depth=2", "--set=model.heads=2", "--set=model.mlp_dim=16"),
    *("--set=model.patch_size=8", "--image-size", "32", "--augment", "light"),
    *("--set=task_options.num_queries=4", "--set=task_options.num_blocks=1", "--set=task_options.num_upscale=1"),
    "--set=task_options.threshold=0.05",
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some of the digit scenes as COCO's panoptic files."""
    monkeypatch.chdir(tmp_path)
    whole = open_source(SourceConfig(spec="digit_scenes_panoptic", val_fraction=0))
    assert whole.train is not None
    few = Splits(train=whole.train.subset(np.arange(8)), val=whole.train.subset(np.arange(8, 12)))
    convert(few, tmp_path / "scenes", "coco_panoptic")
    return tmp_path / "scenes"


def test_every_verb(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, picture = "runs/tiny", str(next((data / "val").iterdir()))
    assert main(["train", str(data), "--task", "panoptic", "--name", "tiny", *TINY]) == 0
    assert "kind: panoptic" in Path(run, "config.yaml").read_text()
    page = Path(run, "report.html").read_text()
    assert "panoptic quality" in page
    assert "truth next to prediction" in page
    capsys.readouterr()

    assert main(["evaluate", run, str(data), "--split", "val", "--device", "cpu", "--out", "measured"]) == 0
    assert "panoptic quality of things" in capsys.readouterr().out
    (table,) = Path("measured").glob("*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 4
    assert rows[0]["true"].startswith("1 background, ")

    assert main(["predict", run, str(data / "val"), "--device", "cpu", "--out", "maps", "--annotate", "drawn"]) == 0
    assert len(list(Path("drawn").iterdir())) == 4
    capsys.readouterr()
    assert main(["predict", run, picture, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["size"] == [64, 64]
    predictor = vitrail.load(run, device="cpu")
    found = predictor.predict(picture)
    assert isinstance(found, Prediction)
    colours = np.asarray(Image.open(Path("maps", f"{Path(picture).stem}.png"))).astype(int)
    np.testing.assert_array_equal(colours @ [1, 256, 65536], found.map)

    for method in ("gradcam", "relevance", "attention", "rollout"):
        assert main(["explain", run, picture, "--method", method, "--device", "cpu", "--out", f"{method}.png"]) == 0
