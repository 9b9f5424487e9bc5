"""COCO's panoptic files: read, written, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.data import SourceConfig, open_source
from vitrail.data.inspection.check import check
from vitrail.data.inspection.convert import convert
from vitrail.data.media.decode import BadImage
from vitrail.data.segments import SegmentColumn
from vitrail.data.source import Splits
from vitrail.errors import UserError

SIZE = (20, 30)
IDS = (70_000, 5, 300)


def panoptic(root: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> Path:
    """Three images with two things, one of them a crowd, on stuff."""
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [
        {"id": 9, "name": "cat", "isthing": 1},
        {"id": 4, "name": "sky", "isthing": 0},
    ]
    (root / "annotations" / "panoptic_train2017").mkdir(parents=True)
    (root / "train2017").mkdir()
    for i, name in enumerate("abc"):
        Image.new("RGB", SIZE[::-1], (i, 9, 9)).save(root / "train2017" / f"{name}.jpg")
        ids = np.zeros(SIZE, np.int64)
        ids[:10], ids[12:16, 4:9], ids[15:, 20:] = IDS
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(root / "annotations" / "panoptic_train2017" / f"{name}.png")
        content["images"].append({"id": i + 1, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        segments = [
            {"id": IDS[0], "category_id": 4, "iscrowd": 0},
            {"id": IDS[1], "category_id": 9, "iscrowd": 0},
            {"id": IDS[2], "category_id": 9, "iscrowd": 1},
        ]
        content["annotations"].append({"image_id": i + 1, "file_name": f"{name}.png", "segments_info": segments})
    change(content)
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    return root


def opened(spec: Path | str, **more: Any) -> Splits:
    return open_source(SourceConfig(spec=str(spec), val_fraction=0, **more))


def test_ids_become_numbers_and_classes_are_in_the_order_of_theirs(tmp_path: Path) -> None:
    source = opened(panoptic(tmp_path)).train
    assert source is not None
    assert (source.kind, source.classes) == ("panoptic", ("sky", "cat"))
    column = source.targets
    assert isinstance(column, SegmentColumn)
    assert (column.things.tolist(), column.category_ids.tolist()) == ([False, True], [4, 9])
    found = column[1]
    assert (found.size, found.image_id) == (SIZE, 2)
    assert (found.labels.tolist(), found.crowd.tolist()) == ([0, 1, 1], [False, False, True])
    assert found.areas.tolist() == [300, 20, 50]
    assert found.numbers[14, 5] == 2
    assert found.numbers[11, 0] == 0
    assert source.read(1) == (tmp_path / "train2017" / "b.jpg").read_bytes()
    assert source.counts().tolist() == [3, 6]
    assert str(check(f"coco_panoptic:{tmp_path}").bad) == "[]"


def test_a_file_by_itself_and_the_classes_of_a_model(tmp_path: Path) -> None:
    file = panoptic(tmp_path) / "annotations" / "panoptic_train2017.json"
    source = opened(f"coco_panoptic:{file}", classes=("cow", "cat", "sky")).train
    assert source is not None
    assert source.targets[0].labels.tolist() == [2, 1, 1]
    assert source.targets.category_ids.tolist() == [10, 9, 4]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    before = opened(panoptic(tmp_path / "in"))
    convert(before, tmp_path / "out", "coco_panoptic")
    digits = opened("digit_scenes_panoptic")
    assert digits.train is not None
    few = Splits(train=digits.train.subset(np.arange(3)))
    convert(few, tmp_path / "digits", "coco_panoptic")
    for splits, folder in ((before, "out"), (few, "digits")):
        after = opened(tmp_path / folder)
        one, other = splits.train, after.train
        assert one is not None
        assert other is not None
        assert one.classes == other.classes
        assert one.targets.things.tolist() == other.targets.things.tolist()
        for i in range(3):
            for name in ("numbers", "labels", "crowd"):
                assert getattr(one.targets[i], name).equal(getattr(other.targets[i], name))
    with pytest.raises(UserError, match="coco holds boxes or masks, and the data has panoptic"):
        convert(before, tmp_path / "other", "coco")


def test_digit_scenes_have_a_background(tmp_path: Path) -> None:
    splits = opened("digit_scenes_panoptic")
    objects = opened("digit_scenes")
    assert splits.test is not None
    assert objects.test is not None
    column = splits.test.targets
    assert splits.classes == ("background", *"0123456789")
    assert column.things.tolist() == [False] + [True] * 10
    for i in (0, 7):
        found, digits = column[i], objects.test.targets[i]
        assert found.labels.tolist() == [0, *(digits.labels + 1).tolist()]
        assert found.masks()[1:].equal(digits.masks)
        assert (found.numbers > 0).all()


def annotation(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["annotations"][1]
    return found


def segment(content: dict[str, Any], **values: Any) -> None:
    annotation(content)["segments_info"][1].update(values)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown category": (lambda c: segment(c, category_id=7), "annotation 1 has the category 7, which is not in"),
    "category of a list": (lambda c: segment(c, category_id=[4]), "annotation 1 has the category"),
    "id twice": (lambda c: segment(c, id=IDS[0]), "annotation 1 has the segment 70000 twice"),
    "id 0": (lambda c: segment(c, id=0), "annotation 1 has a segment with the id 0"),
    "id too large": (lambda c: segment(c, id=2**24), "annotation 1 has a segment with the id 16777216"),
    "id no number": (lambda c: segment(c, id="5"), "annotation 1 has a segment with the id '5'"),
    "no segments": (lambda c: annotation(c).pop("segments_info"), "annotation 1 has no list segments_info"),
    "odd segments": (lambda c: annotation(c).update(segments_info=[3]), "annotation 1 has a segment with the id None"),
    "unknown image": (lambda c: annotation(c).update(image_id=77), "annotation 1 is of the image 77"),
    "image twice": (lambda c: annotation(c).update(image_id=1), "annotation 1 is the second one of the image 1"),
    "map elsewhere": (lambda c: annotation(c).update(file_name="../b.png"), "annotation 1 has a file_name that leads"),
    "map absolute": (lambda c: annotation(c).update(file_name="/etc/b.png"), "annotation 1 has a file_name that leads"),
    "map without name": (lambda c: annotation(c).pop("file_name"), "annotation 1 has a file_name that names no file"),
    "image elsewhere": (lambda c: c["images"][0].update(file_name="a/../../b"), "image 0 has a file_name that leads"),
    "image id twice": (lambda c: c["images"][2].update(id=1), "image 2 has the id 1, which another one has"),
    "image without id": (lambda c: c["images"][2].pop("id"), "image 2 lacks an id"),
    "huge id": (lambda c: c["images"][2].update(id=10**30), "image 2 lacks an id"),
    "category twice": (lambda c: c["categories"].append({"id": 4, "name": "sea"}), "category 4 is both sky and sea"),
    "category without name": (lambda c: c["categories"].append({"id": 5}), "category 2 lacks an id or a name"),
    "no categories": (lambda c: c.pop("categories"), "has no list 'categories', as COCO's panoptic files have"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, text = REFUSED[case]
    with pytest.raises(UserError) as caught:
        opened(f"coco_panoptic:{panoptic(tmp_path, change)}")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_maps_that_do_not_fit_are_named_by_check(tmp_path: Path) -> None:
    maps = panoptic(tmp_path) / "annotations" / "panoptic_train2017"
    (maps / "a.png").unlink()
    Image.new("RGB", SIZE[::-1], (1, 2, 0)).save(maps / "b.png")
    Image.new("RGB", (5, 6), (5, 0, 0)).save(maps / "c.png")
    found = "\n".join(map(str, check(f"coco_panoptic:{tmp_path}").bad))
    assert "a.jpg has a map" in found
    assert "that cannot be read: no such file or directory" in found
    assert "b.png, with the id 513, which no segment of its entry has" in found
    assert "c.jpg has 30 × 20 pixels, and its map has 5 × 6" in found
    assert "c.jpg has at segment 0 (sky) no pixel in its map" in found
    source = opened(tmp_path).train
    assert source is not None
    with pytest.raises(BadImage):
        source.targets[0]
    (maps / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(BadImage, match="has a map"):
        source.targets[0]


def test_files_that_are_no_such_thing(tmp_path: Path) -> None:
    for text in ("", "[", "[]", '{"images": 3}', "[" * 100_000):
        (tmp_path / "panoptic_val.json").write_text(text)
        with pytest.raises(UserError, match=r"panoptic_val\.json"):
            opened(f"coco_panoptic:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"panoptic_train\.json"):
        opened(f"coco_panoptic:{tmp_path / 'empty'}")
