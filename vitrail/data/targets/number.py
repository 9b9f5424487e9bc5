"""One or more numbers for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitrail.data.indexing.labels import first_row
from vitrail.data.targets import Labels, Raw, TargetKind, Where
from vitrail.errors import UserError


class Numbers(TargetKind[np.ndarray, np.ndarray]):
    """The column is float32 (N, K), and ``classes`` are the names of the K numbers; a batch float32 (B, K)."""

    wording = "numbers for labels"
    noun = "target"
    numeric = True

    def encode(
        self, raw: Mapping[str, Raw], *, classes: tuple[str, ...], columns: tuple[str, ...], where: Where
    ) -> dict[str, Labels]:
        return {split: _numbers(split, values, columns, where) for split, values in raw.items()}

    def ranges(self, column: np.ndarray, names: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
        columns = zip(names, column.T.astype(np.float64), strict=True)
        return {name: (float(c.min()), float(c.mean()), float(c.std()), float(c.max())) for name, c in columns}

    def text(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return ", ".join(f"{value:g}" for value in column[index])

    def columns(self, classes: Sequence[str]) -> tuple[str, ...]:
        return tuple(classes)

    def cells(self, column: np.ndarray, index: int, classes: Sequence[str]) -> list[object]:
        return [*np.atleast_1d(column[index]).tolist()]

    def caption(self, target: Tensor | np.ndarray, classes: Sequence[str]) -> tuple[str, str]:
        return ", ".join(f"{value:.4g}" for value in np.asarray(target)[:4]), ""

    def collate(self, targets: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(targets))

    def mix_fault(self, *, mixup: bool, cutmix: bool) -> str | None:
        # a patch of a picture carries no known share of a number
        return "augment.mix.cutmix cannot blend numbers; set augment.mix.cutmix=0 (mixup can)" if cutmix else None


def _numbers(split: str, values: Raw, columns: tuple[str, ...], where: Where) -> Labels:
    if isinstance(values, list) or values.dtype.kind not in "iufb":
        sample = values[0] if len(values) else ""
        raise UserError(f"{where(split, 0)}: {str(sample)!r} is not a number; give numbers, or kind=class")
    matrix = values.astype(np.float32).reshape(len(values), -1)
    if (bad := ~np.isfinite(matrix)).any():
        i = first_row(bad)
        raise UserError(f"{where(split, i)}: the value {values[i]} is not a finite number; correct or remove it")
    count = matrix.shape[1]
    names = columns if len(columns) == count else tuple(f"target_{i}" if count > 1 else "target" for i in range(count))
    return Labels("number", names, matrix)


KIND = Numbers("number")
