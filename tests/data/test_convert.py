"""What is written in another format is read again as the very same targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.cli import main
from vitrail.data import Source, SourceConfig, Splits, open_source
from vitrail.data.inspection.convert import convert
from vitrail.data.storage.decimals import start_and_size
from vitrail.errors import UserError
from vitrail.ops.boxes import area


def opened(spec: object, kind: str = "auto") -> dict[str, Source]:
    return dict(open_source(SourceConfig(spec=str(spec), kind=kind, val_fraction=0)).items())


def opened_as(spec: object, kind: str) -> Splits:
    return open_source(SourceConfig(spec=str(spec), kind=kind, val_fraction=0))


def plain(name: str) -> str:
    """``a/b.png`` → ``b``, ``train[7]`` → ``train-7``."""
    return Path(name).stem.replace("[", "-").rstrip("]")


def assert_same(one: dict[str, Source], other: dict[str, Source], *, boxes: float = 0, crowds: bool = True) -> None:
    assert list(one) == list(other)
    for split, source in one.items():
        again = other[split]
        assert (again.kind, again.classes, len(again)) == (source.kind, source.classes, len(source))
        stems = [{plain(s.name(i)): i for i in range(len(s))} for s in (source, again)]
        assert sorted(stems[0]) == sorted(stems[1])
        for stem, i in stems[0].items():
            before, after = source.targets[i], again.targets[stems[1][stem]]
            if source.kind == "semantic":
                np.testing.assert_array_equal(before, after)
                continue
            before = before if crowds else before.take(~before.ignored)
            assert after.size == before.size
            assert torch.equal(after.labels, before.labels)
            assert torch.equal(after.ignored, before.ignored)
            torch.testing.assert_close(after.boxes_xyxy, before.boxes_xyxy, atol=boxes, rtol=0)
            if before.masks is not None:
                assert torch.equal(after.masks, before.masks)


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_boxes_and_masks_come_back(scene_folder: Path, tmp_path: Path, to: str, kind: str) -> None:
    before = opened(scene_folder, kind)
    convert(open_source(SourceConfig(spec=str(scene_folder), kind=kind, val_fraction=0)), tmp_path / "out", to)
    assert_same(before, opened(tmp_path / "out", kind))


def test_class_maps_come_back(scene_folder: Path, tmp_path: Path) -> None:
    assert main(["data", "convert", str(scene_folder), str(tmp_path / "out"), "--to", "masks"]) == 0
    assert_same(opened(scene_folder, "semantic"), opened(tmp_path / "out"))


def test_from_format_to_format_and_back(scene_folder: Path, tmp_path: Path, capsys) -> None:
    chain = [scene_folder, tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for source, out, to in zip(chain[:-1], chain[1:], ["coco", "yolo", "coco"], strict=True):
        assert main(["data", "convert", str(source), str(out), "--to", to, "--kind", "masks"]) == 0
    assert "wrote 12 train images" in capsys.readouterr().out
    assert_same(opened(scene_folder, "masks"), opened(tmp_path / "c"))


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_any_float_comes_back_to_the_bit(scene_folder: Path, tmp_path: Path, to: str) -> None:
    splits = open_source(SourceConfig(spec=str(scene_folder), kind="boxes", val_fraction=0))
    found = splits.train.targets
    corners = torch.rand(len(found.boxes_xyxy), 2, 2).mul_(24).sort(dim=1).values.flatten(1)
    found.boxes_xyxy[:] = corners.numpy()
    convert(splits, tmp_path / "out", to)
    assert_same({"train": splits.train}, opened(tmp_path / "out"))


def test_numbers_stay_short() -> None:
    assert start_and_size(np.array([476.97, 1.49, 640, 422.46], np.float32)) == [476.97, 1.49, 163.03, 420.97]


def test_digit_scenes_are_written_as_pictures(tmp_path: Path) -> None:
    splits = open_source(SourceConfig(spec="digit_scenes", val_fraction=0))
    few = {name: source.subset(np.arange(0, 40, 7)) for name, source in splits.items()}
    convert(type(splits)(**few), tmp_path / "out", "coco")
    again = opened(tmp_path / "out")
    assert_same(few, again)
    picture = np.asarray(Image.open(next((tmp_path / "out" / "train").glob("*.png"))))
    assert any(np.array_equal(picture, few["train"].read(i)) for i in range(6))


def test_category_ids_are_kept(tmp_path: Path, coco_file) -> None:
    file = coco_file()
    convert(open_source(SourceConfig(spec=str(file), val_fraction=0)), tmp_path / "out", "coco")
    written = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert {c["id"]: c["name"] for c in written["categories"]} == {7: "cat", 90: "dog"}
    before = json.loads(file.read_text())["annotations"]
    for key in ("category_id", "image_id", "bbox", "iscrowd", "segmentation", "area"):
        assert [a[key] for a in written["annotations"]] == [a[key] for a in before]


def test_areas_crowds_and_difficult_objects_stay_what_they_are(tmp_path: Path, coco_file, capsys) -> None:
    def change(content: dict) -> None:
        for annotation, size in zip(content["annotations"], (7.25, 61.375, 9000.5, 0.1), strict=True):
            annotation["area"] = size  # neither the box's nor the mask's
        content["annotations"][1]["ignore"] = 1

    for kind in ("masks", "boxes"):
        convert(opened_as(coco_file(change), kind), tmp_path / kind, "coco")
        first, second = (opened(tmp_path / kind)["train"].targets[i] for i in range(2))
        assert first.areas.tolist() == pytest.approx([7.25, 61.375])
        assert second.areas.tolist() == pytest.approx([9000.5, 0.1])
        assert (first.crowd.tolist(), first.difficult.tolist()) == ([False, False], [False, True])
        assert (second.crowd.tolist(), second.ignored.tolist()) == ([True, False], [True, False])
        (tmp_path / "coco").rename(tmp_path / f"from {kind}")
    convert(opened_as(tmp_path / "boxes", "boxes"), tmp_path / "voc", "voc")
    assert "1 crowds became difficult objects" in capsys.readouterr().err
    first, second = (opened(tmp_path / "voc")["train"].targets[i] for i in range(2))
    assert (first.difficult.tolist(), second.difficult.tolist()) == ([False, True], [True, False])
    assert not second.crowd.any()
    assert first.areas.tolist() == area(first.boxes_xyxy).tolist()


def test_an_area_that_is_no_number_is_refused_and_a_missing_one_is_the_masks(coco_file, tmp_path: Path) -> None:
    file = coco_file(lambda content: content["annotations"][3].update(area=None))
    objects = opened(file)["train"].targets[0]
    assert objects.annotated_areas is None
    assert objects.areas.tolist() == objects.masks.flatten(1).sum(1).tolist()
    file.write_text(file.read_text().replace('"area": null', '"area": "much"'))
    with pytest.raises(UserError, match=r"annotation 3 has an area that is no number: 'much'"):
        opened(file)


def test_what_a_format_cannot_hold_is_told(tmp_path: Path, coco_file, capsys) -> None:
    splits = open_source(SourceConfig(spec=str(coco_file()), val_fraction=0))
    convert(splits, tmp_path / "out", "yolo")
    assert "warning: left out: 1 crowds and difficult objects" in capsys.readouterr().err
    with pytest.raises(UserError, match="masks holds semantic, and the data has masks"):
        convert(splits, tmp_path / "other", "masks")
    with pytest.raises(UserError, match="exists; name a new folder"):
        convert(splits, tmp_path / "out", "coco")
    with pytest.raises(UserError, match="unknown writer 'cocoa'; did you mean 'coco'"):
        convert(splits, tmp_path / "other", "cocoa")
    assert not (tmp_path / "other").exists()


def test_an_unreadable_image_leaves_no_folder(tmp_path: Path, coco_file) -> None:
    file = coco_file()
    (file.parent / "images/b.png").write_bytes(b"")
    splits = open_source(SourceConfig(spec=str(file), val_fraction=0))
    (file.parent / "images/b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        convert(splits, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_coco_photos_come_back(real_data: Path, tmp_path: Path, own_cache: Path) -> None:
    for kind, to, crowds in (("masks", "coco", True), ("boxes", "yolo", False), ("boxes", "voc", True)):
        splits = open_source(SourceConfig(spec=str(real_data / "coco_mini"), kind=kind, val_fraction=0))
        convert(splits, tmp_path / to, to)
        assert_same(dict(splits.items()), opened(tmp_path / to, kind), crowds=crowds)


@pytest.mark.real_data
def test_coco_outlines_come_back_through_yolo(real_data: Path, tmp_path: Path, own_cache: Path) -> None:
    splits = open_source(SourceConfig(spec=str(real_data / "coco_mini"), val_fraction=0))
    few = {"val": splits.val.subset(np.arange(8))}
    convert(type(splits)(**few), tmp_path / "out", "yolo")
    assert_same(few, opened(tmp_path / "out"), boxes=0.6, crowds=False)


@pytest.mark.real_data
def test_blood_cells_come_back(real_data: Path, tmp_path: Path, own_cache: Path) -> None:
    before = opened(real_data / "bccd")
    assert {split: len(source) for split, source in before.items()} == {"train": 205, "val": 87, "test": 72}
    assert before["train"].classes == ("Platelets", "RBC", "WBC")
    assert sum(int(source.counts().sum()) for source in before.values()) == 4888
    for to in ("voc", "coco", "yolo"):
        convert(open_source(SourceConfig(spec=str(real_data / "bccd"), val_fraction=0)), tmp_path / to, to)
        assert_same(before, opened(tmp_path / to))
