"""Files that are nearly data, each read, or refused with what was expected and the nearest layout.

Siblings looked at: Hugging Face's ``metadata.jsonl`` in a folder and in those of splits, several labels, objects,
damaged lines; arrays without labels, arrays as ``.npy``; a folder of one ``.npz``; masks in folders of their classes; a
split without masks among others; damaged ``datasets`` folders and devkits.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import SIZE, levels, opened, picture, write

from vitrail.data.inspection.check import check
from vitrail.errors import UserError


@pytest.mark.parametrize("folder", ["", "train"])
def test_hugging_faces_metadata(folder: str, tmp_path: Path) -> None:
    place = tmp_path / folder
    for name in ("1.png", "2.png"):
        picture(place / name)
    file = place / "metadata.jsonl"
    write(file, '{"file_name": "1.png", "label": "ant"}\n\n{"label": "bee", "file_name": "2.png"}\n')
    splits = opened(tmp_path)
    assert splits.classes == ("ant", "bee")
    assert check(splits, workers=0).ok
    write(file, '{"file_name": "1.png", "label": ["ant", "bee"]}\n{"file_name": "2.png", "label": ["bee"]}\n')
    assert opened(tmp_path).kind == "multilabel"


@pytest.mark.parametrize(
    ("line", "cause"),
    [('{"file_name": "2.png", "label": ', "row 2 is no JSON object"), ("[1]", "row 2 is no JSON object"),
     ('{"file_name": "2.png", "objects": {"bbox": [[1, 2, 3, 4]]}}', "row 2: 'objects' holds more than a value")],
)  # fmt: skip
def test_damaged_lines_are_named(line: str, cause: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    file = write(tmp_path / "metadata.jsonl", f'{{"file_name": "1.png", "label": "ant"}}\n{line}\n')
    with pytest.raises(UserError, match=cause):
        opened(file)


def test_arrays_name_what_to_do(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8)
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a/x_train.npy", images)
    with pytest.raises(UserError, match=r"x_train\.npy lies there: .*np\.savez\('data\.npz', x=images, y=labels\)"):
        opened(tmp_path / "a")
    (tmp_path / "b").mkdir()
    np.savez(tmp_path / "b/set.npz", train_images=images, train_labels=np.array([0, 1, 0, 1]))
    with pytest.raises(UserError, match=r"holds no images; .*, such as .*set\.npz"):
        opened(tmp_path / "b")
    assert len(opened(tmp_path / "b/set.npz").split("train")) == 4


def test_masks_in_folders_of_their_classes(tmp_path: Path) -> None:
    part = np.zeros(SIZE, np.uint8)
    part[2:9, 1:7] = 255
    for name, of in (("x", "cat"), ("y", "dog")):
        picture(tmp_path / f"images/{name}.jpg")
        levels(tmp_path / f"masks/{of}/{name}.png", part)
    splits = opened(tmp_path)
    assert splits.classes == ("background", "cat", "dog")
    train = splits.split("train")
    np.testing.assert_array_equal(np.asarray(train.targets[1]), 2 * (part > 0))  # type: ignore[call-overload]


def test_a_split_without_masks_is_left_out(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / f"leftImg8bit/{split}/a/a_0_leftImg8bit.png")
        if split != "test":
            levels(tmp_path / f"gtFine/{split}/a/a_0_gtFine_labelIds.png", np.full(SIZE, 7))
    assert [name for name, _ in opened(tmp_path).items()] == ["train", "val"]


@pytest.mark.parametrize("damage", ["state", "arrow", "feature", "null"])
def test_damaged_datasets(damage: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = picture(tmp_path / "a.png").read_bytes()
    cells = [{"bytes": data, "path": None}] * 3 + [None if damage == "null" else {"bytes": data, "path": None}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    folder = tmp_path / "d"
    datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 0, 1]}, features=features).save_to_disk(str(folder))
    spec = f"huggingface:{folder}"
    if damage == "null":
        report = check(opened(spec), workers=0)
        assert [finding.text for finding in report.bad] == ["has no image"]
        return
    if damage == "state":
        write(folder / "state.json", "[1, 2]")
    elif damage == "arrow":
        file = next(folder.glob("*.arrow"))
        file.write_bytes(file.read_bytes()[:200])
    else:
        info = json.loads((folder / "dataset_info.json").read_text())
        info["features"]["label"] = {"_type": "Nope"}
        write(folder / "dataset_info.json", json.dumps(info))
    with pytest.raises(UserError, match=r"cannot be opened: .*; save it again with save_to_disk"):
        opened(spec)


def test_a_damaged_devkit(tmp_path: Path) -> None:
    picture(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "ILSVRC2012_devkit_t12/data").mkdir(parents=True)
    (tmp_path / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"MATLAB 5.0 garbage" * 20)
    with pytest.raises(UserError, match=r"data/meta\.mat is damaged: .* again"):
        opened(tmp_path)
