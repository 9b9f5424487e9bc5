"""The results by the values of a column of a table, such as the camera, the place or the age of a person."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrail.data.sources.csv import SUFFIXES, path_column_of
from vitrail.data.storage.tables import read_table
from vitrail.data.storage.written_paths import find_files
from vitrail.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from vitrail.data.source import SourceConfig
    from vitrail.report.evaluated import EvaluatedModel

Z = 1.959964  # of an interval that holds 95 %
MAX_GROUPS = 50  # the largest ones


@dataclass(frozen=True)
class Subgroups:
    """The value of the column for each image, by path and by file name."""

    file: Path
    column: str
    by_path: dict[str, str]
    by_name: dict[str, str]

    def of(self, name: str) -> str | None:
        """The group of an image by its name in the data; None where the table does not have it."""
        return self.by_path.get(str(Path(name).resolve())) or self.by_name.get(Path(name).name)

    def table(self, evaluated: EvaluatedModel) -> tuple[list[str], list[list[object]]]:
        """Columns and rows: group, images, share of right ones with its interval, mean loss. Largest groups first.

        Raises:
            UserError: the table has none of the images.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for row, index in enumerate(evaluated.evaluation.index):
            if (group := self.of(evaluated.source.name(int(index)))) is not None:
                groups[group].append(row)
        if not groups:
            raise UserError(f"{self.file} names none of the evaluated images; give a table with their paths")
        losses = np.asarray(evaluated.columns["loss"], dtype=float)
        right = np.array([evaluated.family.caption(evaluated.evaluation, row).right for row in range(len(losses))])
        judged = bool(right.any())
        columns = [self.column, "images", *(["right", "interval"] if judged else []), "mean loss"]
        largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_GROUPS]
        return columns, [_row(group, rows, right if judged else None, losses) for group, rows in largest]


def read(spec: str, data: SourceConfig) -> Subgroups:
    """The groups of a column of the run's own table, or of another one, written ``table.csv:column``.

    Raises:
        UserError: there is no such table or column.
    """
    place, _, column = spec.rpartition(":")
    tables = [Path(place).expanduser()] if place else _own_tables(data)
    by_path: dict[str, str] = {}
    for table in tables:
        by_path |= _groups(table, column, data if not place else None)
    times = Counter(Path(path).name for path in by_path)
    by_name = {Path(path).name: group for path, group in by_path.items() if times[Path(path).name] == 1}
    return Subgroups(tables[0], column, by_path, by_name)


def _own_tables(data: SourceConfig) -> list[Path]:
    path = data.path if data.location else Path()
    found = [path] if path.suffix.lower() in SUFFIXES else sorted(path.glob("*.csv")) if path.is_dir() else []
    if not found:
        raise UserError(f"{data.spec!r} is no table; name one with the images' paths as --subgroups TABLE.csv:COLUMN")
    return found


def _groups(table: Path, column: str, data: SourceConfig | None) -> dict[str, str]:
    """Group by resolved path."""
    if not table.is_file():
        raise UserError(f"{str(table)!r} cannot be read as a table, since it is not there; check the path")
    text = read_table(table, None if data is None else data.encoding)
    if column not in text.header:
        raise UserError(f"{str(table)!r} has no column {column!r}; {did_you_mean(column, text.header)}")
    own = data.path_column if data is not None else None
    path_column = own or path_column_of(text.header) or text.header[0]
    root = Path(data.root).expanduser() if data is not None and data.root else table.parent
    at, path_at = text.header.index(column), text.header.index(path_column)
    for row, cells in text.rows:
        text.require_text(row, cells[at])
    groups = {cells[path_at].strip(): cells[at] for _, cells in text.rows if cells[path_at].strip()}
    found = find_files(os.fsencode(root), [os.fsencode(path) for path in groups], "train")
    return {
        str((root / os.fsdecode(path)).resolve()): group for path, group in zip(found, groups.values(), strict=True)
    }


def _row(group: str, rows: list[int], right: np.ndarray | None, losses: np.ndarray) -> list[object]:
    share: list[str] = []
    if right is not None:
        low, high = wilson(int(right[rows].sum()), len(rows))
        share = [f"{right[rows].mean():.1%}", f"{low:.1%} – {high:.1%}"]
    return [group, len(rows), *share, float(losses[rows].mean())]


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The interval of a share that holds it with 95 % (Wilson 1927)."""
    share, square = hits / total, Z * Z / total
    middle = share + square / 2
    reach = Z * sqrt(share * (1 - share) / total + square / total / 4)
    return (middle - reach) / (1 + square), (middle + reach) / (1 + square)
