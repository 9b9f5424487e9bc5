"""``vitrail predict`` with tasks that say where things are."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from decoders import DEFORMABLE, DETR

from vitrail import registry
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.loading import load
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
OPTIONS = {
    "detection": {"decoder": DETR, "threshold": 0.005},
    "detection_tokens": {"num_queries": 4, "threshold": 0.005},
    "detection_deformable": {"decoder": DEFORMABLE, "threshold": 0.005},
    "segmentation": {},
}


@pytest.fixture(params=sorted(OPTIONS))
def saved(request, tmp_path):
    module = registry.load("tasks", request.param)
    task = module.Task(module.Task.configure(MODEL, ("ant", "bee"), None, OPTIONS[request.param]))
    path = tmp_path / "weights.safetensors"
    Predictor(task, PreprocessConfig(size=16, resize="pad"), device="cpu").save(path)
    return str(path)


def test_answers_are_in_the_pixels_of_the_picture(saved, photos, tmp_path, capsys):
    found = load(saved, device="cpu").predict(photos / "a.png")  # 30 × 40 pixels
    call = ["predict", saved, str(photos / "a.png"), "--device", "cpu"]
    assert main([*call, "--json", "--annotate", str(tmp_path / "drawn")]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert item["size"] == [30, 40]
    assert item | {"path": ""} == {"path": "", **json.loads(json.dumps(found.to_dict()))}
    assert (tmp_path / "drawn" / "a.jpg").is_file()
    for each in item.get("objects", []):
        left, top, right, bottom = each["box_xyxy"]
        assert 0 <= left <= right <= 40
        assert 0 <= top <= bottom <= 30


def test_csv_has_a_row_a_finding_and_a_table_a_line_a_picture(saved, photos, capsys):
    predictor = load(saved, device="cpu")
    rows = predictor.predict(photos / "a.png").rows()
    call = ["predict", saved, str(photos / "a.png"), "--device", "cpu"]
    assert main([*call, "--csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [{k: v for k, v in row.items() if k != "path"} for row in read] == rows
    assert rows
    assert main([*call, "--top", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_list_and_a_stream_agree_with_one_picture(saved, photos):
    predictor = load(saved, device="cpu")
    images = [np.zeros((9, 20, 3), np.uint8), photos / "a.png"]
    each = [predictor.predict(image).to_dict() for image in images]
    together, streamed = predictor.predict(images), [result for _, result in predictor.stream(images)]
    for results in (together, streamed):
        assert [result.to_dict()["size"] for result in results] == [one["size"] for one in each] == [[9, 20], [30, 40]]
