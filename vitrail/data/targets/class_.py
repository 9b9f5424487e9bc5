"""One class for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vitrail.data.indexing.labels import first_row, texts, unknown
from vitrail.data.targets import MORE_CLASSES, Labels, Raw, TargetKind, Where
from vitrail.errors import UserError

MAX_NAMED = 2  # classes of a mixed image


class SingleClass(TargetKind[np.int64, np.ndarray]):
    """The column is int64 (N,); a batch int64 (B,), mixed float32 (B, K)."""

    wording = "one class an image"
    exclusive = has_classes = True

    def encode(
        self, raw: Mapping[str, Raw], *, classes: tuple[str, ...], columns: tuple[str, ...], where: Where
    ) -> dict[str, Labels]:
        values = {split: _class_values(split, each, where) for split, each in raw.items()}
        if not classes:
            classes = texts(
                np.unique(values["train"] if "train" in values else np.concatenate([*values.values()])).tolist()
            )
        return {split: _class_labels(split, each, classes, where) for split, each in values.items()}

    def check_classes(self, classes: Sequence[str], spec: str) -> None:
        if len(classes) < 2:
            raise UserError(
                f"{spec!r} holds one class, {classes[0]!r}; give two or more class folders or labels, "
                "or read it without labels with labelled=false"
            )

    def cannot_teach(self, column: np.ndarray, classes: Sequence[str]) -> str | None:
        if len(column) and len(set(column.tolist())) == 1:
            return f"all {len(column):,} images are of one class, {classes[int(column[0])]!r}; {MORE_CLASSES}"
        return None

    def counts(self, column: np.ndarray, num_classes: int) -> np.ndarray:
        return np.bincount(column.astype(np.int64), minlength=num_classes)

    def text(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return classes[int(column[index])]

    def folder(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return self.text(column, index, classes)

    def caption(self, target: Tensor | np.int64, classes: Sequence[str]) -> tuple[str, str]:
        shares = np.asarray(target)
        if shares.ndim == 0:
            return classes[int(shares)], ""
        top = np.argsort(-shares, kind="stable")[:MAX_NAMED]
        named = [(classes[i], float(shares[i])) for i in top if shares[i] > 0.05]
        return named[0][0], " + ".join(f"{name} {share:.0%}" for name, share in named) if len(named) > 1 else ""

    def collate(self, targets: Sequence[np.int64] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(targets))

    def blendable(self, targets: Tensor, num_classes: int) -> Tensor:
        return one_hot(targets, num_classes).float()


def _class_values(split: str, values: Raw, where: Where) -> np.ndarray:
    """Integers or names (N,), whatever they were stored as."""
    if isinstance(values, list) or values.ndim != 1:
        raise UserError(f"{where(split, 0)}: several labels; give one a sample, or kind=multilabel")
    if values.dtype.kind == "f":
        if (bad := ~np.isfinite(values) | (values != np.round(values))).any():
            i = first_row(bad)
            raise UserError(f"{where(split, i)}: {values[i]} is no class; give an integer or a name, or kind=number")
        values = values.astype(np.int64)
    if values.dtype.kind in "iub":
        values = values.astype(np.int64)
        if (bad := values < 0).any():
            i = first_row(bad)
            raise UserError(f"{where(split, i)}: the class {values[i]} is out of range; classes count from 0")
    return values


def _class_labels(split: str, values: np.ndarray, classes: tuple[str, ...], where: Where) -> Labels:
    """Integers are positions in ``classes``, unless the classes are integers by name; names are looked up."""
    if values.dtype.kind == "i" and not all(name.isdigit() for name in classes):
        if (bad := values >= len(classes)).any():
            i = first_row(bad)
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
        i = first_row(bad)
        raise unknown(str(values[i]), classes, where(split, i))
    return Labels("class", classes, targets)


KIND = SingleClass("class")
