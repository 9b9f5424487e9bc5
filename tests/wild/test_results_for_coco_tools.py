"""Results for pycocotools whose ids count from 1 (roboflow/rf-detr#85).

Siblings: ids that are texts, category ids with gaps, a part of the data, masks; other targets have no such file.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import coco, halves, levels, opened, picture

from vitrail.data.source import Source
from vitrail.evaluation import Evaluation
from vitrail.metrics import detection, instances
from vitrail.ops import rle
from vitrail.ops.detections import Detections
from vitrail.report.coco_results import coco_results


def perfect(source: Source, *, masks: bool = False) -> Evaluation:
    """What a model without a mistake finds."""
    column: Any = source.targets
    rows = []
    for index in range(len(source)):
        true = column[index]
        found = Detections(true.labels, torch.full((len(true),), 0.9), true.boxes_xyxy, torch.arange(len(true)))
        rows.append(instances.Row(found, [rle.compressed(m.numpy()) for m in true.masks]) if masks else found)
    family = (instances if masks else detection).Metrics(source.classes)
    family.update(rows, [column[index] for index in range(len(source))])
    return Evaluation({}, rows, None, np.arange(len(source)), 1.0, 1.0, family)


def renumbered(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["id"] = 1000 + 7 * image["id"]
    for each in content["annotations"]:
        each.update(id=each["id"] + 1, image_id=1000 + 7 * each["image_id"], area=72)


@pytest.mark.parametrize("masks", [False, True])
def test_cocos_tools_take_them(masks: bool, tmp_path: Path) -> None:
    reference = pytest.importorskip("pycocotools.coco")
    evaluating = pytest.importorskip("pycocotools.cocoeval")
    file = coco(tmp_path, outlines=masks, change=renumbered)
    source = opened(file, kind="masks" if masks else "boxes").train
    found = coco_results(perfect(source, masks=masks), source)
    assert [entry["image_id"] for entry in found] == [1000, 1007, 1014, 1021]
    assert [entry["category_id"] for entry in found] == [1, 3, 1, 3]
    (tmp_path / "found.json").write_text(json.dumps(found))
    with redirect_stdout(io.StringIO()):
        truth = reference.COCO(str(file))
        run = evaluating.COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "segm" if masks else "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert run.stats[0] == pytest.approx(1)


def test_texts_stay_texts_in_any_part_of_the_data(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"img{image['id']}"
        for each in content["annotations"]:
            each["image_id"] = f"img{each['image_id']}"

    source = opened(coco(tmp_path, change=change)).train.subset(np.array([3, 1]))
    assert [entry["image_id"] for entry in coco_results(perfect(source), source)] == ["img3", "img1"]


def test_other_targets_have_none(tmp_path: Path) -> None:
    picture(tmp_path / "maps" / "images" / "a.jpg")
    levels(tmp_path / "maps" / "masks" / "a.png", halves(0, 1))
    file = coco(tmp_path / "coco")
    assert coco_results(perfect(opened(file).train), opened(tmp_path / "maps").train) is None
