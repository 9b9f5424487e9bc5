"""Any number of classes for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitrail.data.indexing.labels import first_row, is_integer, sorted_names, texts, unknown
from vitrail.data.targets import Labels, Raw, TargetKind, Where
from vitrail.errors import UserError


class SeveralClasses(TargetKind[np.ndarray, np.ndarray]):
    """The column is float32 (N, K) of 0 and 1; a batch float32 (B, K)."""

    wording = "several labels an image"
    noun = "label"
    has_classes = separated = True

    def encode(
        self, raw: Mapping[str, Raw], *, classes: tuple[str, ...], columns: tuple[str, ...], where: Where
    ) -> dict[str, Labels]:
        matrices = {split: each for split, each in raw.items() if isinstance(each, np.ndarray) and each.ndim == 2}
        if matrices:
            matrices = {split: _in_order(split, m, columns, classes, where) for split, m in matrices.items()}
            return {split: _indicators(split, m, classes or columns, where) for split, m in matrices.items()}
        lists = {split: _as_lists(values) for split, values in raw.items()}
        listed = lists["train"] if "train" in lists else [row for rows in lists.values() for row in rows]
        known = classes or texts(sorted_names({name for row in listed for name in row}))
        return {split: _multi_hot(split, rows, known, where) for split, rows in lists.items()}

    def cannot_teach(self, column: np.ndarray, classes: Sequence[str]) -> str | None:
        return None if column.any() else f"none of {len(column):,} images has a label; give images that have some"

    def counts(self, column: np.ndarray, num_classes: int) -> np.ndarray:
        return np.asarray(column.sum(axis=0), dtype=np.int64)

    def text(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return _joined(column[index], classes) or "none"

    def columns(self, classes: Sequence[str]) -> tuple[str, ...]:
        return tuple(classes)

    def cells(self, column: np.ndarray, index: int, classes: Sequence[str]) -> list[object]:
        return [*column[index].astype(int).tolist()]  # an image without labels has an empty cell otherwise

    def caption(self, target: Tensor | np.ndarray, classes: Sequence[str]) -> tuple[str, str]:
        return ", ".join(classes[i] for i in np.flatnonzero(np.asarray(target) > 0.5).tolist()) or "none", ""

    def collate(self, targets: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(targets))


def _joined(row: np.ndarray, classes: Sequence[str]) -> str:
    return "|".join(classes[i] for i in np.flatnonzero(row).tolist())


def _in_order(
    split: str, matrix: np.ndarray, columns: tuple[str, ...], classes: tuple[str, ...], where: Where
) -> np.ndarray:
    """The named columns in the order of the classes; columns that are none of them stay away where they are 0."""
    if not classes or len(columns) != matrix.shape[1] or columns == classes:
        return matrix
    if not set(columns) & set(classes):
        return matrix  # names of columns say nothing: they are counted
    for place, name in enumerate(columns):
        if name not in classes and matrix[:, place].any():
            raise unknown(name, classes, where(split, int(np.argmax(matrix[:, place] != 0))))
    ordered = np.zeros((len(matrix), len(classes)), matrix.dtype)
    for place, name in enumerate(classes):
        if name in columns:
            ordered[:, place] = matrix[:, columns.index(name)]
    return ordered


def _indicators(split: str, matrix: np.ndarray, names: tuple[str, ...], where: Where) -> Labels:
    if (bad := ~np.isin(matrix, (0, 1))).any():
        i = first_row(bad)
        raise UserError(f"{where(split, i)}: {matrix[i].tolist()} is out of range; several labels are 0 or 1 each")
    if names and len(names) != matrix.shape[1]:
        raise UserError(f"{where(split, 0)}: {matrix.shape[1]} columns for {len(names)} classes; make them agree")
    names = names or tuple(map(str, range(matrix.shape[1])))
    return Labels("multilabel", names, matrix.astype(np.float32))


def _multi_hot(split: str, rows: list[tuple[str, ...]], classes: tuple[str, ...], where: Where) -> Labels:
    number = {name: i for i, name in enumerate(classes)}
    if not any(map(is_integer, classes)):  # integers are positions, unless classes are called so
        number |= {str(i): i for i in range(len(classes))}
    matrix = np.zeros((len(rows), len(classes)), np.float32)
    for i, row in enumerate(rows):
        for name in row:
            if name not in number:
                raise unknown(name, classes, where(split, i))
            matrix[i, number[name]] = 1
    return Labels("multilabel", classes, matrix)


def _as_lists(values: Raw) -> list[tuple[str, ...]]:
    return values if isinstance(values, list) else [(str(value),) for value in values.tolist()]


KIND = SeveralClasses("multilabel")
