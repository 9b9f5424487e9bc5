"""From labels as they are stored (names, integers, lists, numbers) to target columns, checked value by value."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vitrail import console
from vitrail.data import targets
from vitrail.data.indexing.names import ClassFinder
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
    if kind in ("auto", "class"):
        single, one_hot = _of_single_columns(filled)
        if not one_hot or len(columns) == one_hot or len(classes) in (0, one_hot):
            filled = single
        if filled is single and one_hot:
            if kind == "auto":
                console.note(
                    f"labels: each image has a 1 in one of {one_hot} columns, so one class an image; kind=multilabel "
                    "reads them as several labels"
                )
            names = next((each for each in (columns, classes) if len(each) == one_hot), ())
            names = names or tuple(map(str, range(one_hot)))
            filled = {split: np.array(names)[np.asarray(places)] for split, places in filled.items()}
            classes = classes or names
    if classes:
        filled = {split: _renamed(values, ClassFinder(classes)) for split, values in filled.items()}
    guessed = _guess(next(iter(filled.values())))
    if kind == "auto" and guessed == "number":
        _note_whole(filled)
    encoder = targets.load(kind if kind != "auto" else guessed)
    labels = encoder.encode(filled, classes=classes, columns=columns, where=where)
    return {split: labels.get(split, NO_LABELS) for split in raw}


def from_cells(cells: list[str], separator: str | None, *, numeric: bool | None = None) -> Raw:
    """Labels from text: lists where ``separator`` divides them, else integers or numbers if all are, else names.

    What is written in different ways stays different: ``01`` and ``1``, ``1_1`` and ``11`` are names.

    Args:
        numeric: whether the labels are to be numbers; None: where all are, and no two texts mean the same one.
    """
    if separator is not None:
        return [tuple(part.strip() for part in cell.split(separator) if part.strip()) for cell in cells]
    if (lists := _bracketed(cells)) is not None:
        return lists
    distinct = dict.fromkeys(cells)
    if all(map(is_integer, distinct)):
        return np.array([int(cell) for cell in cells])
    whole = all(_WHOLE.fullmatch(text) for text in distinct)  # not all as an integer is written: 007
    if numeric is False or (numeric is None and whole) or not all(map(is_number, distinct)):
        if numeric is None and len(distinct) > 1 and all(_COMMA.fullmatch(text) for text in distinct):
            shown = next(iter(distinct))
            console.warn(f"labels such as {shown!r} are read as classes; if they are numbers, write them with a point")
        return np.array(cells)
    values = {text: float(text) for text in distinct}
    if numeric is None:
        first: dict[float, str] = {}
        for text, value in values.items():
            if (other := first.setdefault(value, text)) != text:
                console.note(
                    f"labels: {other!r} and {text!r} are two texts and one number, so labels are classes; "
                    "--task regression (kind=number) reads numbers"
                )
                return np.array(cells)
    return np.array([values[cell] for cell in cells])


def joined_by(cells: Sequence[str]) -> str | None:
    """The comma, where it joins labels that all stand alone in other cells; None where nothing seems to join any.

    Of commas and spaces between parts that several cells share it is said that they are read as one label.
    """
    distinct = dict.fromkeys(cells)
    for mark in ", ":
        several = {cell: {part.strip() for part in cell.split(mark)} for cell in distinct if mark in cell}
        if not several:
            continue
        if mark == "," and all(parts <= distinct.keys() for parts in several.values()):
            console.note(f"labels: {next(iter(several))!r} is read as several labels; kind=class reads one")
            return mark
        times = Counter(part for parts in several.values() for part in parts)
        if all(part in distinct or times[part] > 1 for part in times):
            console.warn(
                f"labels: {next(iter(several))!r} is read as one class, and its parts are in other labels too; if an "
                f"image has several labels, say what divides them: label_separator={mark!r}"
            )
    return None


def from_values(values: Sequence[object], *, ids: bool | None = None) -> Raw:
    """Labels from JSON values: lists, integers, numbers, else names.

    A list holds names or numbers of classes; or, where all are of one length, 0 or 1 for each class, or numbers.

    Args:
        ids: whether integers in lists are numbers of classes, where the data says it.

    Raises:
        ValueError: what is no label, such as a list in a list.
    """
    lists = [list(value) for value in values if isinstance(value, list | tuple | np.ndarray)]
    if lists:
        if len(lists) < len(values):  # a single label stands without brackets
            lists = [list(each) if isinstance(each, list | tuple | np.ndarray) else [each] for each in values]
        if any(isinstance(part, list | tuple | dict | np.ndarray) or part is None for row in lists for part in row):
            raise ValueError("a list of labels holds what is no label; give names or numbers of classes")
        return _from_lists(lists, ids)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([str(value) for value in values])


def is_integer(text: str) -> bool:
    """Whether a text is an integer as it is written: 7 and -3, not 07, +7, 1_0 or 7.0, nor of 19 digits or more."""
    return len(text) <= MOST_DIGITS and _WHOLE.fullmatch(text) is not None and str(int(text)) == text


def is_number(text: str) -> bool:
    """Whether a text is a number, finite or not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.isascii()


def sorted_names(names: Iterable[str]) -> list[str]:
    """Class names in order; integers by value."""
    names = list(names)
    return sorted(names, key=int) if all(map(is_integer, names)) else sorted(names)


MOST_DIGITS = 18  # of an integer, so that any number of them fits into 64 bits
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+")


def _bracketed(cells: list[str]) -> list[tuple[str, ...]] | None:
    """Lists as JSON or Python writes them into cells, ``[1, 5]`` or ``['cat', 'dog']``; None where any is none."""
    if not cells or not all(cell[:1] == "[" and cell[-1:] == "]" for cell in cells):
        return None
    lists = []
    for cell in cells:
        try:
            parts = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if not all(isinstance(part, int | float | str) for part in parts):
            return None
        lists.append(tuple(map(str, parts)))
    return lists


def _from_lists(lists: list[list[object]], ids: bool | None) -> Raw:
    lengths = set(map(len, lists))
    parts = [part for row in lists for part in row]
    numbers = bool(parts) and all(isinstance(part, int | float | np.number | bool) for part in parts)
    if numbers and len(lengths) == 1 and not ids:
        matrix = np.array(lists)
        if matrix.dtype.kind == "f" or (matrix.shape[1] > 1 and np.isin(matrix, (0, 1)).all()):
            return matrix.astype(np.int64) if matrix.dtype.kind == "b" else matrix
    if numbers and any(isinstance(part, float) for part in parts):
        raise ValueError("lists of numbers are of different lengths; give each image as many")
    return [tuple(map(str, row)) for row in lists]


def _of_single_columns(filled: dict[str, Raw]) -> tuple[dict[str, Raw], int]:
    """Where all rows of a matrix have one 1 and else 0, the places of the ones; where it has one column of integers,
    that column. And the number of columns that ones were looked for in."""
    matrices = {split: each for split, each in filled.items() if isinstance(each, np.ndarray) and each.ndim == 2}
    if len(matrices) < len(filled):
        return filled, 0
    count = next(iter(matrices.values())).shape[1]
    if count == 1:
        single = all(each.dtype.kind in "iubUS" for each in matrices.values())
        return ({split: each[:, 0] for split, each in matrices.items()} if single else filled), 0
    if all(each.dtype.kind in "iufb" and np.isin(each, (0, 1)).all() and (each.sum(axis=1) == 1).all()
           for each in matrices.values()):  # fmt: skip
        return {split: each.argmax(axis=1) for split, each in matrices.items()}, count
    return filled, 0


def texts(values: Sequence[object]) -> tuple[str, ...]:
    """Class names as text."""
    return tuple(map(str, values))


def first_row(mask: np.ndarray) -> int:
    """The first row of (N, …) that holds a true."""
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))


def unknown(name: str, classes: tuple[str, ...], place: str) -> UserError:
    """The error about a label that is not among the known classes, or is the name of several."""
    if len(several := ClassFinder(classes).matching(name)) > 1:
        return UserError(f"{place}: the class {name!r} is the name of several: {', '.join(several)}; write one of them")
    return UserError(f"{place}: the class {name!r} is not among the known ones; {did_you_mean(name, classes)}")


def _renamed(values: Raw, finder: ClassFinder) -> Raw:
    """Labels that are names, under the names of the known classes."""
    if isinstance(values, list):
        return [tuple(finder.find(n) if isinstance(n, str) else n for n in names) for names in values]
    if values.dtype.kind not in "UO":
        return values
    distinct, inverse = np.unique(values.astype(str), return_inverse=True)
    return np.array([finder.find(str(name)) for name in distinct])[inverse]


def _note_whole(filled: Mapping[str, Raw]) -> None:
    """Say that whole numbers with a point are read as numbers, which may be numbers of classes."""
    columns = [np.asarray(values).reshape(len(values), -1) for values in filled.values()]
    values = np.concatenate(columns) if all(each.shape[1] == 1 for each in columns) else np.empty((0, 1))
    if len(values) and np.isfinite(values).all() and (values == np.round(values)).all():
        shown = ", ".join(f"{value:.1f}" for value in list(dict.fromkeys(values[:1000, 0].tolist()))[:3])
        console.warn(
            f"labels such as {shown} are read as numbers, for regression; --task classification (kind=class) "
            "reads classes"
        )


def _guess(values: Raw) -> str:
    if isinstance(values, list):
        return "multilabel"
    if values.ndim == 2 and values.any() and np.isin(values, (0, 1)).all():
        return "multilabel"
    if values.dtype.kind == "f":
        return "number"
    return "multilabel" if values.ndim == 2 else "class"
