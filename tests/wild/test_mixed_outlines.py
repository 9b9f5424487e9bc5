"""Boxes mixed with outlines, where all masks were dropped without a word (ultralytics/yolov5#9718), and a split without
objects beside masks, "has no mask for each object" (lightly-ai/lightly-train#590, tue-mps/eomt#42).

Siblings: YOLO and COCO; a split with boxes alone; crowds; what is trained, measured, checked, converted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import OUTLINE, boxes_of, coco, opened, picture, told, write

from vitrail.data.inspection.check import check
from vitrail.data.inspection.convert import convert
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.errors import UserError
from vitrail.metrics.instances import Metrics, Row
from vitrail.ops.detections import Detections
from vitrail.ops.matching import Pairs

RING = "0 0.1 0.1 0.5 0.1 0.5 0.6\n"
SQUARE = "1 0.5 0.5 0.2 0.2\n"


def yolo(root: Path, **labels: str) -> Path:
    for name, text in labels.items():
        picture(root / "images" / f"{name}.png")
        write(root / "labels" / f"{name}.txt", text)
    write(root / "data.yaml", "train: images\nnames: [cat, dog]\n")
    return root


def mixed(content: dict[str, Any]) -> None:
    content["annotations"][1].pop("segmentation")


def test_boxes_are_kept_with_masks_where_they_are(tmp_path: Path) -> None:
    splits, said = told(yolo(tmp_path, a=RING + SQUARE, b=RING))
    assert splits.kind == "masks"
    first, second = splits.train.targets[0], splits.train.targets[1]
    assert first.outlined.tolist() == [True, False]
    assert second.outlined.tolist() == [True]
    assert boxes_of(splits)[1] == ("dog", [12, 8, 18, 12])
    assert torch.equal(first.masks[1].nonzero().amax(0), torch.tensor([11, 17]))
    assert "train: 1 of 3 objects have a box and no outline, such as object 1 (dog) of" in said
    assert "images/a.png" in said
    assert opened(tmp_path, kind="boxes").train.targets[0].masks is None


def test_of_coco_too(tmp_path: Path) -> None:
    splits, said = told(coco(tmp_path, outlines=True, change=mixed))
    assert splits.train.targets.outlined.tolist() == [True, False, True, True]
    assert "such as object 0 (dog) of b.png" in said
    report = check(splits, workers=0)
    assert report.ok
    assert any("1 without an outline" in line for line in report.lines())


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_what_is_written_is_read_again(to: str, tmp_path: Path) -> None:
    splits = opened(coco(tmp_path / "data", outlines=True, change=mixed))
    convert(splits, tmp_path / "out", to)
    again = opened(tmp_path / "out")
    assert again.train.targets.outlined.tolist() == [True, False, True, True]
    assert [boxes_of(again, index=i) for i in range(4)] == [boxes_of(splits, index=i) for i in range(4)]


def test_a_split_of_boxes_alone_is_told(tmp_path: Path) -> None:
    coco(tmp_path, outlines=True)
    coco(tmp_path, file="instances_val.json")
    splits, said = told(tmp_path)
    assert splits.kind == "boxes"
    assert "is read as boxes: no object of val has an outline, and those of train have" in said
    with pytest.raises(UserError, match="has no masks but boxes"):
        opened(tmp_path, kind="masks")


@pytest.mark.parametrize("empty", ["train", "val"])
def test_a_split_without_objects_has_masks_too(empty: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        change = (lambda content: content["annotations"].clear()) if split == empty else (lambda content: None)
        coco(tmp_path, outlines=True, file=f"instances_{split}.json", change=change)
    for kind in ("auto", "masks"):
        splits = opened(tmp_path, kind=kind)
        assert splits.kind == "masks"
        assert splits.split(empty).targets[0].masks.shape == (0, 20, 30)


def test_no_mask_is_learned_of_a_box() -> None:
    from vitrail.nn.detr_decoder import DecoderConfig
    from vitrail.tasks import instances
    from vitrail.vit import ViTConfig

    model = ViTConfig(image_size=(16, 24), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    decoder = DecoderConfig(dim=16, depth=1, heads=2, mlp_dim=16, num_queries=3)
    task = instances.Task(instances.Config(model=model, classes=("a", "b"), decoder=decoder))
    given: dict[str, Any] = {"crowd": torch.zeros(2, dtype=torch.bool), "size": (16, 24)}
    masks = torch.zeros(2, 16, 24, dtype=torch.bool)
    masks[0, 2:8, 2:8] = masks[1, 9:15, 9:15] = True
    boxes = torch.tensor([[2.0, 2, 8, 8], [9, 9, 15, 15]])
    known = Objects(boxes_xyxy=boxes, labels=torch.tensor([0, 1]), masks=masks, **given)
    partly = replace(known, outlined=torch.tensor([True, False]))
    x = torch.randn(1, 3, task.config.decoder.dim)
    encoded = task._encode(torch.rand(1, 3, 16, 24), None)
    pairs = Pairs(*torch.tensor([[0, 0], [0, 1], [0, 1]]))
    first = Pairs(*torch.tensor([[0], [0], [0]]))

    def losses(objects: Objects, own: Pairs) -> dict[str, torch.Tensor]:
        beside = task._further(encoded, {"targets": ObjectsBatch.of([objects])})
        return beside.losses([x], [own], torch.tensor(2.0))

    one, same, both = losses(partly, pairs), losses(known, first), losses(known, pairs)
    assert torch.equal(one["mask"], same["mask"])
    assert both["mask"] > one["mask"]


def test_masks_are_not_measured_where_there_is_none() -> None:
    from vitrail.ops import rle

    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:6, 2:6] = True
    boxes = torch.tensor([[2.0, 2, 6, 6]])
    none = torch.zeros(1, dtype=torch.bool)
    labels = torch.tensor([0])
    found = Row(Detections(labels, torch.tensor([0.9]), boxes, torch.tensor([0])), [rle.compressed(mask.numpy())])
    true = Objects(boxes_xyxy=boxes, labels=labels, crowd=none, size=(10, 10), masks=mask[None], outlined=none)
    family = Metrics(("a",))
    family.update([found], [true])
    result = family.compute()
    assert result["ap50"] == 1
    assert result["mask_ap"] != result["mask_ap"]  # NaN: nothing to find


def test_a_moved_object_keeps_what_is_known_of_it() -> None:
    objects = Objects(
        boxes_xyxy=torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 3]]),
        labels=torch.tensor([0, 1]),
        crowd=torch.zeros(2, dtype=torch.bool),
        size=(8, 8),
        masks=torch.ones(2, 8, 8, dtype=torch.bool),
        outlined=torch.tensor([False, True]),
    )
    assert objects.take(torch.tensor([1])).outlined.tolist() == [True]
    assert ObjectsBatch.of([objects, objects])[1].outlined.tolist() == [False, True]
    assert OUTLINE
