"""From labels as people store them (names, integers, lists, numbers) to target columns, checked value by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from vitrail.data.source import NO_LABELS, Labels, Wanted
from vitrail.errors import UserError, did_you_mean

Raw = np.ndarray | list[tuple[str, ...]]
Where = Callable[[str, int], str]


def encode(
    raw: dict[str, Raw],
    *,
    kind: Wanted,
    classes: tuple[str, ...],
    where: Where,
    columns: tuple[str, ...] = (),
) -> dict[str, Labels]:
    """Encode the labels of all splits with one class list.

    Args:
        raw: for each split an array of integers, floats or names, (N,) or (N, K), or a list of lists of names.
        kind: ``auto``: floats are numbers; lists and integer matrices are multi-label; all else is a class.
        classes: the class names in order. Without them they are the names or integers that training holds, sorted.
        where: (split, position) → how to call that label in an error.
        columns: the names of K columns.

    Raises:
        UserError: a label that is missing, not finite, out of range or unknown, with its place.
    """
    filled = {split: values for split, values in raw.items() if len(values)}
    labels = _encode(filled, kind, classes, where, columns) if filled else {}
    return {split: labels.get(split, NO_LABELS) for split in raw}


def _encode(
    raw: dict[str, Raw],
    kind: Wanted,
    classes: tuple[str, ...],
    where: Where,
    columns: tuple[str, ...],
) -> dict[str, Labels]:
    resolved = kind if kind != "auto" else _guess(next(iter(raw.values())))
    if resolved == "number":
        return {split: _numbers(split, values, columns, where) for split, values in raw.items()}
    if resolved == "multilabel":
        matrices = {
            split: values for split, values in raw.items() if isinstance(values, np.ndarray) and values.ndim == 2
        }
        if matrices:
            return {split: _indicators(split, m, classes or columns, where) for split, m in matrices.items()}
        lists = {split: _as_lists(values) for split, values in raw.items()}
        known = classes or _names(sorted({name for row in lists.get("train", []) for name in row}))
        return {split: _multi_hot(split, rows, known, where) for split, rows in lists.items()}
    values = {split: _class_values(split, each, where) for split, each in raw.items()}
    if not classes:
        classes = _names(
            np.unique(values["train"] if "train" in values else np.concatenate([*values.values()])).tolist()
        )
    return {split: _class_labels(split, each, classes, where) for split, each in values.items()}


def from_cells(cells: list[str], separator: str | None) -> Raw:
    """Labels from text: lists where ``separator`` divides them, else integers or numbers if all are, else names."""
    if separator is not None:
        return [tuple(part.strip() for part in cell.split(separator) if part.strip()) for cell in cells]
    for convert in (int, float):
        try:
            return np.array([convert(cell) for cell in cells])
        except (ValueError, OverflowError):
            continue
    return np.array(cells)


def from_values(values: list[Any]) -> Raw:
    """Labels from JSON values: lists, integers, numbers, else names."""
    if all(isinstance(value, list) for value in values):
        if values and all(isinstance(part, int | float) for value in values for part in value):
            return np.array(values)
        return [tuple(map(str, value)) for value in values]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([str(value) for value in values])


def _guess(values: Raw) -> Literal["class", "multilabel", "number"]:
    if isinstance(values, list):
        return "multilabel"
    if values.dtype.kind == "f":
        return "number"
    return "multilabel" if values.ndim == 2 else "class"


def _names(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(map(str, values))


def _as_lists(values: Raw) -> list[tuple[str, ...]]:
    return values if isinstance(values, list) else [(str(value),) for value in values.tolist()]


def _first(mask: np.ndarray) -> int:
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))


def _numbers(split: str, values: Raw, columns: tuple[str, ...], where: Where) -> Labels:
    if isinstance(values, list) or values.dtype.kind not in "iufb":
        sample = values[0] if len(values) else ""
        raise UserError(f"{where(split, 0)}: {str(sample)!r} is not a number; give numbers, or kind=class")
    matrix = values.astype(np.float32).reshape(len(values), -1)
    if (bad := ~np.isfinite(matrix)).any():
        i = _first(bad)
        raise UserError(f"{where(split, i)}: the value {values[i]} is not a finite number; correct or remove it")
    count = matrix.shape[1]
    names = columns if len(columns) == count else tuple(f"target_{i}" if count > 1 else "target" for i in range(count))
    return Labels("number", names, matrix)


def _indicators(split: str, matrix: np.ndarray, names: tuple[str, ...], where: Where) -> Labels:
    if (bad := ~np.isin(matrix, (0, 1))).any():
        i = _first(bad)
        raise UserError(f"{where(split, i)}: {matrix[i].tolist()} is out of range; several labels are 0 or 1 each")
    if names and len(names) != matrix.shape[1]:
        raise UserError(f"{where(split, 0)}: {matrix.shape[1]} columns for {len(names)} classes; make them agree")
    names = names or tuple(map(str, range(matrix.shape[1])))
    return Labels("multilabel", names, matrix.astype(np.float32))


def _multi_hot(split: str, rows: list[tuple[str, ...]], classes: tuple[str, ...], where: Where) -> Labels:
    number = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(rows), len(classes)), np.float32)
    for i, row in enumerate(rows):
        for name in row:
            if name not in number:
                raise _unknown(name, classes, where(split, i))
            matrix[i, number[name]] = 1
    return Labels("multilabel", classes, matrix)


def _class_values(split: str, values: Raw, where: Where) -> np.ndarray:
    """Integers or names (N,), whatever they were stored as."""
    if isinstance(values, list) or values.ndim != 1:
        raise UserError(f"{where(split, 0)}: several labels; give one a sample, or kind=multilabel")
    if values.dtype.kind == "f":
        if (bad := ~np.isfinite(values) | (values != np.round(values))).any():
            i = _first(bad)
            raise UserError(f"{where(split, i)}: {values[i]} is no class; give an integer or a name, or kind=number")
        values = values.astype(np.int64)
    if values.dtype.kind in "iub":
        values = values.astype(np.int64)
        if (bad := values < 0).any():
            i = _first(bad)
            raise UserError(f"{where(split, i)}: the class {values[i]} is out of range; classes count from 0")
    return values


def _class_labels(split: str, values: np.ndarray, classes: tuple[str, ...], where: Where) -> Labels:
    """Integers are positions in ``classes``, unless the classes are integers by name; names are looked up."""
    if values.dtype.kind == "i" and not all(name.isdigit() for name in classes):
        if (bad := values >= len(classes)).any():
            i = _first(bad)
            raise UserError(
                f"{where(split, i)}: the class {values[i]} is out of range; there are {len(classes)}, so 0 to "
                f"{len(classes) - 1}"
            )
        return Labels("class", classes, values)
    number = {name: i for i, name in enumerate(classes)}
    distinct, inverse = np.unique(values, return_inverse=True)
    numbers = np.array([number.get(str(value), -1) for value in distinct.tolist()], np.int64)
    targets = numbers[inverse]
    if (bad := targets < 0).any():
        i = _first(bad)
        raise _unknown(str(values[i]), classes, where(split, i))
    return Labels("class", classes, targets)


def _unknown(name: str, classes: tuple[str, ...], place: str) -> UserError:
    return UserError(f"{place}: the class {name!r} is not among the known ones; {did_you_mean(name, classes)}")
