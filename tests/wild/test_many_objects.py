"""150 objects an image and 100 queries, and nothing said (PeizeSun/SparseR-CNN#35).

Siblings: queries as tokens, panoptic segments, the number of detections that are kept; `data check` with and without a
model; crowds do not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import BOX, coco, opened

from vitrail.data.inspection.check import check
from vitrail.data.inspection.teaching import too_many

TEXT = "an image of train has 150 objects and the model finds 100 at most"


def many(root: Path, crowd: int = 0) -> Path:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": i, "image_id": 0, "category_id": 1 + 2 * (i % 2), "bbox": BOX, "iscrowd": crowd} for i in range(150)
        ]
        content["annotations"].append({"id": 999, "image_id": 1, "category_id": 1, "bbox": BOX, "iscrowd": 0})

    return coco(root, change=change)


def test_check_tells_both_numbers(tmp_path: Path) -> None:
    lines = list(check(opened(many(tmp_path)), workers=0).lines())
    assert any(line.startswith(TEXT) for line in lines)
    assert "train: 150 objects in an image at most" in lines


def test_crowds_need_no_query(tmp_path: Path) -> None:
    assert not any(TEXT in line for line in check(opened(many(tmp_path, crowd=1)), workers=0).lines())


def test_no_word_where_there_are_enough(tmp_path: Path) -> None:
    source = opened(many(tmp_path)).train
    assert too_many(source, (150, "x")) is None
    assert too_many(source, (149, "task_options.num_queries")).endswith("--set task_options.num_queries=150")


@pytest.mark.parametrize(
    ("task", "option"),
    [
        ("detection", "decoder.num_queries"),
        ("detection_tokens", "num_queries"),
        ("detection_deformable", "decoder.num_queries"),
    ],
)
def test_training_warns(task: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vitrail.config import override
    from vitrail.data import DataConfig, SourceConfig
    from vitrail.train.opening import build_task, open_run
    from vitrail.train.run import Run
    from vitrail.vit import ViTConfig

    source = SourceConfig(spec=str(many(tmp_path)), val_fraction=0)
    model = ViTConfig(image_size=16, patch_size=16, dim=16, depth=1, heads=2, mlp_dim=16)
    run, data = open_run(Run(data=DataConfig(source=source), model=model, task=task))
    *outer, last = option.split(".")
    options = {outer[0]: {last: 30}} if outer else {last: 30}
    build_task(override(run, {"task_options": options}), data)
    said = capsys.readouterr().err
    assert "an image of train has 150 objects and the model finds 30 at most" in said
    assert f"--set task_options.{option}=150" in said
