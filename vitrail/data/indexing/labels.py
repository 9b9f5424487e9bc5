"""From labels as they are stored (names, integers, lists, numbers) to target columns, checked value by value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitrail.data import targets
from vitrail.data.targets import Labels, Raw, Where
from vitrail.errors import UserError, did_you_mean

NO_LABELS = Labels("none", (), np.empty(0, np.float32))


def encode(
    raw: dict[str, Raw],
    *,
    kind: str,
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
    if not filled:
        return dict.fromkeys(raw, NO_LABELS)
    encoder = targets.load(kind if kind != "auto" else _guess(next(iter(filled.values()))))
    labels = encoder.encode(filled, classes=classes, columns=columns, where=where)
    return {split: labels.get(split, NO_LABELS) for split in raw}


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


def from_values(values: Sequence[object]) -> Raw:
    """Labels from JSON values: lists, integers, numbers, else names."""
    lists = [value for value in values if isinstance(value, list)]
    if len(lists) == len(values):
        numeric = all(isinstance(part, int | float) for value in lists for part in value)
        if lists and numeric and len(set(map(len, lists))) == 1:
            return np.array(lists)
        return [tuple(map(str, value)) for value in lists]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([str(value) for value in values])


def texts(values: Sequence[object]) -> tuple[str, ...]:
    """Class names as text."""
    return tuple(map(str, values))


def first_row(mask: np.ndarray) -> int:
    """The first row of (N, …) that holds a true."""
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))


def unknown(name: str, classes: tuple[str, ...], place: str) -> UserError:
    """The error about a label that is not among the known classes."""
    return UserError(f"{place}: the class {name!r} is not among the known ones; {did_you_mean(name, classes)}")


def _guess(values: Raw) -> str:
    if isinstance(values, list):
        return "multilabel"
    if values.dtype.kind == "f":
        return "number"
    return "multilabel" if values.ndim == 2 else "class"
