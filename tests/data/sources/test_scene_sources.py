"""COCO, Pascal VOC, YOLO, folders of masks, and scenes of digits: what is read is what is written there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import SourceConfig, Splits, open_source
from vitrail.data.inspection.stats import stats
from vitrail.errors import UserError
from vitrail.ops import boxes


def opened(spec: object, **settings: object) -> Splits:
    return open_source(SourceConfig(spec=str(spec), val_fraction=0, **settings))


def test_coco_ids_are_remapped_and_kept(coco_file) -> None:
    source = opened(coco_file()).train
    assert (source.kind, source.classes) == ("masks", ("cat", "dog"))
    assert source.targets.category_ids.tolist() == [7, 90]
    first, crowded, empty = (source.targets[i] for i in range(3))
    assert first.boxes_xyxy.tolist() == [[2.5, 3, 12.5, 15.25], [20, 4, 29, 13]]
    assert (first.labels.tolist(), first.image_id, first.size) == ([1, 0], 11, (30, 40))
    assert crowded.crowd.tolist() == [True, False]
    assert sorted(map(tuple, crowded.masks[0].nonzero().tolist())) == [(row, x) for row in range(1, 9) for x in (1, 2)]
    assert (len(empty), empty.masks.shape) == (0, (0, 16, 16))
    assert source.counts().tolist() == [2, 2]
    assert stats(Splits(train=source), workers=0)["train"].class_counts == {"cat": 2, "dog": 2}


def test_coco_masks_are_those_of_the_coco_api(coco_file) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    file = coco_file()
    source = opened(file).train
    for entry in json.loads(file.read_text())["annotations"]:
        shape, size = entry["segmentation"], (30, 40) if entry["image_id"] == 11 else (24, 20)
        runs = reference.frPyObjects(shape, *size)
        merged = reference.merge(runs) if isinstance(shape, list) else runs
        found = source.targets[0 if entry["image_id"] == 11 else 1]
        mask = found.masks[(entry["id"] - 1) % 2]
        assert int(mask.sum()) == reference.area(merged)
        expected = reference.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        assert expected["counts"] == merged["counts"]


def test_coco_layouts(coco_file, tmp_path: Path) -> None:
    file = coco_file()
    content = json.loads(file.read_text())
    whole = opened(file).train.targets
    for i, (place, images) in enumerate(
        [
            ("annotations/instances_{}2017.json", "{}2017"),
            ("annotations/{}.json", "images"),
            ("{}/_annotations.coco.json", "{}"),
            ("instances_{}.json", "."),
        ]
    ):
        root = tmp_path / f"layout{i}"
        for split in ("train", "val"):
            target = root / place.format(split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(content))
            shutil.copytree(file.parent / "images", root / images.format(split), dirs_exist_ok=True)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / "captions_train.json").write_text("{}")
        splits = opened(root)
        assert {name: len(source) for name, source in splits.items()} == {"train": 3, "val": 3}
        assert splits.val.read(1) == (file.parent / "images" / "b.png").read_bytes()
        np.testing.assert_array_equal(splits.val.targets.boxes_xyxy, whole.boxes_xyxy)


def test_coco_with_a_models_classes(coco_file) -> None:
    file = coco_file()
    source = opened(file, classes=("dog", "bird", "cat"), kind="boxes").train
    assert source.targets[0].labels.tolist() == [0, 2]
    assert source.targets.category_ids.tolist() == [90, 92, 7]
    assert source.targets[0].masks is None
    with pytest.raises(UserError, match=r"annotation 1 has an unknown class 'cat' \(did you mean 'cats'"):
        opened(file, classes=("dog", "cats"))


def test_subsets_and_fingerprints(coco_file) -> None:
    source = opened(coco_file()).train
    part = source.subset(np.array([2, 0])).subset(np.array([1]))
    assert part.targets[0].image_id == 11
    assert part.counts().tolist() == [1, 1]
    assert len({source.fingerprint(), part.fingerprint(), source.unlabelled().fingerprint()}) == 3
    before = source.fingerprint()
    source.targets.boxes_xyxy[0] += 1
    assert source.fingerprint() != before


def test_voc_objects_masks_and_maps_agree(scene_folder: Path) -> None:
    found = opened(scene_folder, kind="masks").train
    maps = opened(scene_folder, kind="semantic").train
    assert opened(scene_folder).kind == "boxes"
    assert found.classes == ("ant", "bee", "cat")
    assert maps.classes == ("background", "ant", "bee", "cat")
    for i in range(len(found)):
        objects = found.targets[i]
        assert torch.equal(boxes.of_masks(objects.masks), objects.boxes_xyxy)
        expected = (objects.masks * (objects.labels + 1)[:, None, None]).sum(0)
        assert np.array_equal(maps.targets[i], expected.numpy())


def test_voc_of_the_challenge_counts_from_one(scene_folder: Path) -> None:
    before = opened(scene_folder).train.targets[3]
    file = scene_folder / "Annotations/03.xml"
    text = file.read_text().replace("<size>", "<source><annotation>PASCAL VOC2007</annotation></source><size>")
    file.write_text(text.replace("<difficult>0<", "<difficult>1<", 1))
    after = opened(scene_folder).train.targets[3]
    assert torch.equal(after.boxes_xyxy, before.boxes_xyxy - torch.tensor([1, 1, 0, 0]))
    assert after.difficult.tolist() == after.ignored.tolist() == [True] + [False] * (len(before) - 1)
    assert not after.crowd.any()


def test_voc_lists_decide_the_splits(scene_folder: Path) -> None:
    lists = scene_folder / "ImageSets"
    (lists / "Main").mkdir(parents=True)
    (lists / "Segmentation").mkdir()
    (lists / "Main/train.txt").write_text("".join(f"{i:02}\n" for i in range(9)))
    (lists / "Main/val.txt").write_text("10\n09  1\n")
    (lists / "Segmentation/train.txt").write_text("05\n07\n")
    splits = opened(scene_folder)
    assert [Path(splits.val.name(i)).stem for i in range(2)] == ["10", "09"]
    segmented = opened(scene_folder, kind="masks").train
    assert [Path(segmented.name(i)).stem for i in range(len(segmented))] == ["05", "07"]


@pytest.fixture
def yolo_folder(tmp_path: Path, own_cache: Path) -> Path:
    root, draw = tmp_path / "yolo", np.random.default_rng(0)
    for split in ("train", "valid"):
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
        for name in "ab":
            pixels = draw.integers(0, 255, (20, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{name}.jpg")
        (root / split / "labels/a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames:\n  0: cat\n  1: dog\nnc: 2\n")
    return root


def test_yolo_boxes_are_shares_of_the_sides(yolo_folder: Path) -> None:
    for spec in (yolo_folder, yolo_folder / "data.yaml"):
        splits = opened(spec)
        assert (splits.kind, splits.classes) == ("boxes", ("cat", "dog"))
        first, second = splits.val.targets[0], splits.val.targets[1]
        assert first.boxes_xyxy.tolist() == [[15, 5, 25, 15], [0, 0, 10, 10]]
        assert (first.labels.tolist(), first.size, len(second)) == ([1, 0], (20, 40), 0)


def test_yolo_turned_pictures_are_measured_upright(yolo_folder: Path) -> None:
    path = yolo_folder / "train/images/a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    assert opened(yolo_folder).train.targets[0].size == (40, 20)


def test_yolo_outlines_and_lists(yolo_folder: Path) -> None:
    (yolo_folder / "train/labels/a.txt").write_text("1 0.25 0.2 0.5 0.2 0.5 0.6 0.25 0.6\n")
    (yolo_folder / "train.txt").write_text("./train/images/a.jpg\n")
    (yolo_folder / "data.yaml").write_text("train: train.txt\nnames: [cat, dog]\n")
    source = opened(yolo_folder).train
    assert (source.kind, len(source)) == ("masks", 1)
    assert source.targets[0].boxes_xyxy.tolist() == [[10, 4, 20, 12]]
    expected = torch.zeros(20, 40, dtype=torch.bool)
    expected[4:12, 10:20] = True
    assert torch.equal(source.targets[0].masks[0], expected)
    (yolo_folder / "train/labels/a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    with pytest.raises(UserError, match="has no masks but boxes labels; give other data, or read it with kind=boxes"):
        opened(yolo_folder, kind="masks")


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}"])
def test_folders_of_masks(layout: str, tmp_path: Path, own_cache: Path) -> None:
    draw, root = np.random.default_rng(0), tmp_path / "maps"
    written = {}
    for split in ("train", "val"):
        folders = {kind: root / layout.format(kind=kind, split=split) for kind in ("images", "masks")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        Image.fromarray(draw.integers(0, 255, (9, 7, 3), np.uint8)).save(folders["images"] / "x.jpg")
        written[split] = draw.choice([0, 1, 4, 255], (9, 7)).astype(np.uint8)
        picture = Image.fromarray(written[split])
        if split == "val":
            picture = picture.convert("P", palette=Image.Palette.WEB)
            picture.putdata(written[split].ravel().tolist())
        picture.save(folders["masks"] / "x.png")
    splits = opened(root)
    assert (splits.kind, splits.classes) == ("semantic", ("0", "1", "2", "3", "4"))
    for split, source in splits.items():
        np.testing.assert_array_equal(source.targets[0], written[split])
    (root / "classes.json").write_text('["sky", "road", "a", "b", "car"]')
    assert opened(root).classes == ("sky", "road", "a", "b", "car")


@pytest.fixture(scope="module")
def digits_with_masks() -> Splits:
    return opened("digit_scenes")


def test_digit_scenes_are_the_same_on_every_machine(digits_with_masks: Splits) -> None:
    splits = digits_with_masks
    assert {name: len(source) for name, source in splits.items()} == {"train": 2000, "test": 400}
    assert (splits.kind, splits.classes, splits.channels) == ("masks", tuple("0123456789"), 1)
    counts = [len(splits.train.targets.objects(i)) for i in range(2000)]
    assert (min(counts), max(counts)) == (1, 5)
    assert splits.test.counts().tolist() == [114, 125, 120, 122, 134, 117, 123, 120, 119, 130]
    assert splits.train.targets.boxes_xyxy.sum() == 763_610


def test_digit_scenes_are_what_they_say(digits_with_masks: Splits) -> None:
    source = digits_with_masks.train
    maps = opened("digit_scenes", kind="semantic").train
    for i in range(60):
        objects, image = source.targets[i], np.asarray(source.read(i))
        assert torch.equal(boxes.of_masks(objects.masks), objects.boxes_xyxy)
        assert int(objects.masks.sum(0).max()) == 1
        expected = (objects.masks * (objects.labels + 1)[:, None, None]).sum(0).numpy()
        np.testing.assert_array_equal(maps.targets[i], expected)
        seen = objects.masks.any(0).numpy()
        assert image[seen].mean() > image[~seen].mean() + 40


def test_scenes_without_labels(coco_file, scene_folder: Path, yolo_folder: Path) -> None:
    for spec in (coco_file(), scene_folder, yolo_folder, "digit_scenes"):
        assert opened(spec, labelled=False).kind == "none"
