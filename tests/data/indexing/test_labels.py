from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vitrail.data.indexing.labels import Raw, encode, from_cells, from_values
from vitrail.data.targets import Labels
from vitrail.errors import UserError


def encoded(train: Raw, *, kind: Any = "auto", classes: tuple[str, ...] = (), **others: Raw) -> dict[str, Labels]:
    raw = {"train": train, **others}
    return encode(raw, kind=kind, classes=classes, where=lambda split, i: f"{split} row {i}")


def test_names_and_integers_become_sorted_classes() -> None:
    labels = encoded(np.array(["dog", "cat", "dog"]))["train"]
    assert (labels.kind, labels.classes, labels.targets.tolist()) == ("class", ("cat", "dog"), [1, 0, 1])
    labels = encoded(np.array([10, 2, 10]))["train"]
    assert (labels.classes, labels.targets.tolist()) == (("2", "10"), [1, 0, 1])
    assert labels.targets.dtype == np.int64


def test_integers_are_positions_in_given_classes() -> None:
    labels = encoded(np.array([1, 0]), classes=("cat", "dog"))["train"]
    assert (labels.classes, labels.targets.tolist()) == (("cat", "dog"), [1, 0])
    with pytest.raises(UserError, match="train row 1: the class 2 is out of range; there are 2, so 0 to 1"):
        encoded(np.array([0, 2]), classes=("cat", "dog"))


def test_given_classes_that_are_integers_are_matched_by_name() -> None:
    assert encoded(np.array([10, 2]), classes=("2", "10"))["train"].targets.tolist() == [1, 0]


def test_other_splits_share_the_training_classes() -> None:
    labels = encoded(np.array(["a", "c"]), val=np.array(["c"]))
    assert labels["val"].targets.tolist() == [1]
    with pytest.raises(UserError, match="val row 0: the class 'b'"):
        encoded(np.array(["a", "c"]), val=np.array(["b"]))


def test_floats_are_numbers() -> None:
    labels = encoded(np.array([1.5, -2.0]))["train"]
    assert (labels.kind, labels.classes) == ("number", ("target",))
    np.testing.assert_array_equal(labels.targets, np.array([[1.5], [-2.0]], np.float32))
    assert encoded(np.array([3, 4]), kind="number")["train"].targets.tolist() == [[3.0], [4.0]]
    assert encoded(np.zeros((2, 3)))["train"].classes == ("target_0", "target_1", "target_2")
    with pytest.raises(UserError, match="train row 1: the value inf"):
        encoded(np.array([1.5, np.inf]))
    with pytest.raises(UserError, match="'x' is not a number"):
        encoded(np.array(["x"]), kind="number")
    with pytest.raises(UserError, match=r"row 0: 1\.5 is no class"):
        encoded(np.array([1.5, 2.0]), kind="class")


def test_several_labels_become_rows_of_zeros_and_ones() -> None:
    labels = encoded([("b", "a"), (), ("b",)])["train"]
    assert (labels.kind, labels.classes) == ("multilabel", ("a", "b"))
    assert labels.targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert labels.targets.dtype == np.float32
    assert encoded(np.array([[1, 0], [1, 1]]))["train"].targets.tolist() == [[1, 0], [1, 1]]
    assert encoded(np.array(["a", "b"]), kind="multilabel")["train"].targets.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match=r"row 1: \[0, 2\] is out of range"):
        encoded(np.array([[1, 0], [0, 2]]))
    with pytest.raises(UserError, match="2 columns for 3 classes"):
        encoded(np.array([[1, 0]]), classes=("a", "b", "c"))
    with pytest.raises(UserError, match="several labels"):
        encoded([("a", "b")], kind="class")


def test_cells_and_values_find_their_type() -> None:
    assert from_cells(["1", "2"], None).dtype.kind == "i"  # type: ignore[union-attr]
    assert from_cells(["1", "2.5"], None).dtype.kind == "f"  # type: ignore[union-attr]
    assert from_cells(["1", "x"], None).tolist() == ["1", "x"]  # type: ignore[union-attr]
    assert from_cells(["a| b", "c"], "|") == [("a", "b"), ("c",)]
    assert from_values([1, 2.5]).dtype.kind == "f"  # type: ignore[union-attr]
    assert from_values([["a"], ["b", "c"]]) == [("a",), ("b", "c")]
    assert from_values([[1, 0], [0, 1]]).shape == (2, 2)  # type: ignore[union-attr]
    assert from_values([1, "a"]).tolist() == ["1", "a"]  # type: ignore[union-attr]


def test_integers_of_more_digits_than_a_column_holds_are_names() -> None:
    long = "9" * 5000
    assert from_cells([long, "9" * 19], None).tolist() == [long, "9" * 19]
    assert from_cells(["9" * 18, "1"], None).tolist() == [int("9" * 18), 1]
