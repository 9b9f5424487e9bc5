"""``.npz`` of all splits: MedMNIST's ``train_images``, Keras' ``x_train`` (neither was found).

Siblings looked at: capitals and other orders of the words, labels of one column, several labels, a split without
labels, class names, names that clash, channels first, and arrays of 16 bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wild_files import opened, picture

from vitrail.errors import UserError

IMAGES = np.stack([picture(i, (28, 28), 1)[..., 0] for i in range(6)])
LABELS = np.array([2, 0, 1, 2, 0, 1])


def saved(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test"),
        ("X_train", "Y_train", "X_dev", "Y_dev", "X_test", "Y_test"),
        ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y"),
        ("images_train", "labels_train", "images_val", "labels_val", "images_test", "labels_test"),
        ("training_data", "training_targets", "validation_data", "validation_targets", "xtest", "ytest"),
    ],
)
def test_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays = {
        name: IMAGES[: 6 - i // 2] if i % 2 == 0 else LABELS[: 6 - i // 2][:, None] for i, name in enumerate(names)
    }
    splits = opened(saved(tmp_path, **arrays))
    assert {split: len(source) for split, source in splits.items()} == {"train": 6, "val": 5, "test": 4}
    assert (splits.kind, splits.classes, splits.channels) == ("class", ("0", "1", "2"), 1)
    assert splits.split("train").targets.tolist() == LABELS.tolist()
    assert splits.split("test").name(1) == "d.npz/test[1]"


def test_several_labels_and_names(tmp_path: Path) -> None:
    marks = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.uint8)
    splits = opened(saved(tmp_path, train_images=IMAGES[:3], train_labels=marks, classes=np.array(["a", "b", "c"])))
    assert (splits.kind, splits.classes) == ("multilabel", ("a", "b", "c"))


def test_a_split_without_labels_is_left_out_aloud(tmp_path: Path, capsys) -> None:
    splits = opened(saved(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES))
    assert [split for split, _ in splits.items()] == ["train"]
    assert "the test split is left out, since it has no labels" in capsys.readouterr().err
    assert len(opened(tmp_path / "d.npz", labelled=False).split("test")) == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES, "train_images": IMAGES, "y_train": LABELS}, "both images of train"),
        ({"x_train": IMAGES, "y_train": LABELS[:4]}, "6 images but 4 labels"),
        (
            {"images": np.zeros((4, 3, 32, 32), np.uint8), "labels": np.arange(4)},
            r"channels first.*transpose\(0, 2, 3, 1\)",
        ),
        ({"foo": IMAGES, "y_train": LABELS}, "nor such of splits"),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(saved(tmp_path, **arrays))


def test_16_bits(tmp_path: Path) -> None:
    splits = opened(saved(tmp_path, x_train=IMAGES.astype(np.uint16) << 8, y_train=LABELS))
    assert splits.split("train").read(0).dtype == np.uint16
