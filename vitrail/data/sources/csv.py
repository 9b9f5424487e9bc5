"""A table of paths and labels, ``.csv`` or ``.tsv``, or a folder of ``train.csv``, ``val.csv`` and ``test.csv``.

One label column holds a class, several labels with ``|`` or ``;`` between them, or a decimal number; several label
columns hold 0 and 1 for each class, or a number each. A column ``split`` holds train, val or test. ``group_column`` and
``time_column`` name others, by which samples are divided. Relative paths start from the table's folder, or from
``root``.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data import targets
from vitrail.data.indexing.grouped import encode_groups, encode_times
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.labels import encode, from_cells
from vitrail.data.indexing.names import classes_beside
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.sources import box_table
from vitrail.data.storage.files import Files
from vitrail.data.targets import Raw
from vitrail.errors import UserError, did_you_mean

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "target", "targets")
SPLIT_COLUMN = "split"
SUFFIXES = (".csv", ".tsv")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if box_table.matches(spec):
        return False
    return path.suffix.lower() in SUFFIXES or any((path / f"train{suffix}").is_file() for suffix in SUFFIXES)


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError, with the row's number, for every row that is not one path and its labels."""
    parts: dict[str, _Table] = {}
    for split, file in _files(config.path).items():
        table = _read(file, config)
        parts |= table.by_split() if table.splits else {split: table}
    folder = config.path if config.path.is_dir() else config.path.parent
    root = os.fsencode(Path(config.root).expanduser() if config.root else folder)
    groups = encode_groups({split: table.groups for split, table in parts.items()}) if config.group_column else {}
    sources: dict[str, Source] = {
        split: Files(
            targets=np.empty(0, np.float32),
            kind="none",
            classes=(),
            groups=groups.get(split),
            times=encode_times(table.times, table.place) if config.time_column else None,
            root=root,
            paths=Strings.of(table.paths),
        )
        for split, table in parts.items()
    }
    if not config.labelled:
        return sources
    labels = encode(
        {split: table.raw(config) for split, table in parts.items()},
        kind=config.kind,
        classes=config.classes or classes_beside(folder),
        where=lambda split, i: parts[split].place(i),
        columns=next(iter(parts.values())).label_columns,
    )
    return {split: source.labelled(labels[split]) for split, source in sources.items()}


@dataclass(frozen=True)
class _Table:
    file: Path
    label_columns: tuple[str, ...]
    paths: list[bytes]
    cells: list[tuple[str, ...]]  # the label columns
    splits: list[str]  # empty without a split column
    rows: list[int]  # line numbers, for errors
    groups: list[str]  # empty unless the config names the column
    times: list[str]  # the same

    def place(self, index: int) -> str:
        """How to call a row in an error."""
        return f"{self.file}: row {self.rows[index]}"

    def by_split(self) -> dict[str, _Table]:
        parts = {}
        columns = ("paths", "cells", "rows", "groups", "times")
        for split in SPLITS:
            if chosen := [i for i, each in enumerate(self.splits) if each == split]:
                full = {name: vars(self)[name] for name in columns}
                own: dict[str, Any] = {name: [column[i] for i in chosen] for name, column in full.items() if column}
                parts[split] = replace(self, splits=[], **own)
        return parts

    def raw(self, config: SourceConfig) -> Raw:
        if len(self.label_columns) > 1:
            columns = [from_cells([row[k] for row in self.cells], None) for k in range(len(self.label_columns))]
            for name, column in zip(self.label_columns, columns, strict=True):
                self._expect_numbers(name, column)
            return np.stack(columns, axis=1)
        cells = [row[0] for row in self.cells]
        kind = None if config.kind == "auto" else targets.load(config.kind)
        separator = config.label_separator
        if separator is None and (kind is None or kind.separated):
            separator = next((mark for mark in "|;" if any(mark in cell for cell in cells)), None)
        values = from_cells(cells, separator)
        if kind is not None and kind.numeric:
            self._expect_numbers(self.label_columns[0], values)
        return values

    def _expect_numbers(self, name: str, column: Raw) -> None:
        if isinstance(column, np.ndarray) and column.dtype.kind in "if":
            return
        for row, value in zip(self.rows, map(str, column), strict=True):
            try:
                float(value)
            except ValueError:
                where = f"{self.file}: row {row}"
                raise UserError(f"{where}: {value!r} in column {name!r} is not a number; correct it") from None


def _files(path: Path) -> dict[str, Path]:
    if path.is_dir():
        candidates = {split: [path / f"{split}{suffix}" for suffix in SUFFIXES] for split in SPLITS}
        return {split: next(f for f in files if f.is_file()) for split, files in candidates.items()
                if any(f.is_file() for f in files)}  # fmt: skip
    return {"train": path}


def _read(file: Path, config: SourceConfig) -> _Table:
    try:
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max("\t,;", key=first.count)
            return _parse(file, csv.reader(stream, delimiter=delimiter, strict=True), config)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}; check the path") from None
    except csv.Error as error:
        raise UserError(f"{file} is no valid table: {error}; quote cells that hold quotes or line breaks") from None


def _parse(file: Path, reader: csv._reader, config: SourceConfig) -> _Table:  # type: ignore[name-defined]
    header = [name.strip() for name in next(reader, [])]
    path_column, label_columns = _columns(file, header, config)
    path_at, label_at = header.index(path_column), [header.index(name) for name in label_columns]
    split_at = header.index(SPLIT_COLUMN) if SPLIT_COLUMN in header else None
    group_at, time_at = (
        None if column is None else header.index(column) for column in (config.group_column, config.time_column)
    )
    table = _Table(file, label_columns, [], [], [], [], [], [])
    seen: dict[bytes, int] = {}
    for cells in reader:
        row = reader.line_num
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise UserError(f"{file}: row {row}: {len(cells)} cells under {len(header)} columns; correct the row")
        path = os.fsencode(cells[path_at].strip())
        if not path:
            raise UserError(f"{file}: row {row}: the path is missing; fill it in or remove the row")
        if path in seen:
            raise UserError(
                f"{file}: row {row}: {cells[path_at]!r} is listed already in row {seen[path]}; keep one "
                "(several labels of an image stand in one cell: cat|dog)"
            )
        seen[path] = row
        labels = tuple(cells[at].strip() for at in label_at)
        if any(label.lower() in ("", "nan") for label in labels):
            raise UserError(f"{file}: row {row}: the label is missing; fill it in or remove the row")
        if split_at is not None:
            split = split_called(cells[split_at].strip())
            if split is None:
                raise UserError(f"{file}: row {row}: the split {cells[split_at]!r} is none of {', '.join(SPLITS)}")
            table.splits.append(split)
        for what, at, column in (("group", group_at, table.groups), ("time", time_at, table.times)):
            if at is not None:
                if not (cell := cells[at].strip()):
                    raise UserError(f"{file}: row {row}: the {what} is missing; fill it in or remove the row")
                column.append(cell)
        table.paths.append(path)
        table.cells.append(labels)
        table.rows.append(row)
    return table


def _columns(file: Path, header: list[str], config: SourceConfig) -> tuple[str, tuple[str, ...]]:
    """The path column and the label columns."""
    extra = (config.group_column, config.time_column)
    for wanted in [config.path_column, *config.label_columns, *extra]:
        if wanted is not None and wanted not in header:
            raise UserError(f"{file} has no column {wanted!r}; {did_you_mean(wanted, header)}")
    path_column = config.path_column or next((name for name in header if name.lower() in PATH_COLUMNS), None)
    if path_column is None:
        raise UserError(
            f"{file} has no column of paths in its first line ({', '.join(header)}); "
            "begin it with a line such as path,label or name the column with path_column="
        )
    if not config.labelled:
        return path_column, ()
    others = tuple(name for name in header if name not in (path_column, SPLIT_COLUMN, *extra))
    named = tuple(name for name in others if name.lower() in LABEL_COLUMNS)
    label_columns = config.label_columns or named[:1] or others
    if not label_columns:
        raise UserError(f"{file} has no label column; add one, or read it without labels with labelled=false")
    return path_column, label_columns
