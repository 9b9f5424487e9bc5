"""A table of paths and labels, ``.csv``, ``.tsv`` or ``.jsonl``; or tables for splits in a folder, as ``train.csv``.

One label column holds a class, several labels with ``|`` or ``;`` between them, or a decimal number; several label
columns hold 0 and 1 for each class, or a number each. A column ``split`` (or ``subset``, ``usage`` and the like) holds
train, val or test. ``group_column`` and ``time_column`` name others, by which samples are divided. Relative paths start
from the table's folder, or from ``root``; where no file is found so, it is looked for by its name or stem in folders
such as ``train_images``, as in competitions whose tables hold ids. A table of a split without labels is left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitrail import console
from vitrail.data import targets
from vitrail.data.indexing.grouped import encode_groups, encode_times
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.labels import encode, from_cells, joined_by
from vitrail.data.indexing.names import classes_beside
from vitrail.data.indexing.splits import words
from vitrail.data.indexing.system_files import is_system
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.sources import box_table, via
from vitrail.data.storage.files import Files
from vitrail.data.storage.tables import JSON_LINES, TextTable, likely_encoding, peek, read_table
from vitrail.data.storage.written_paths import find_files
from vitrail.data.targets import Raw
from vitrail.errors import UserError, did_you_mean

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
ID_COLUMNS = (
    *("image_id", "imageid", "img_id", "id_code", "image_name", "imagename", "img_name", "image_file", "img_path"),
    *("img", "photo", "picture", "photo_id", "file_id", "fname", "name", "id"),
)
LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "target", "targets")
SPLIT_COLUMN = "split"
SPLIT_COLUMNS = (SPLIT_COLUMN, "splits", "set", "subset", "partition", "phase", "usage", "data_split", "dataset_split")
SUFFIXES = (".csv", ".tsv", JSON_LINES)
_TABLE_WORDS = frozenset(
    (
        "label",
        "labels",
        "classes",
        "metadata",
        "meta",
        "annotations",
        "data",
        "dataset",
        "index",
        "list",
        "images",
        "truth",
    )
)
Cell = TypeVar("Cell")
_YES_OR_NO = {"is_valid": "val", "is_val": "val", "is_validation": "val", "is_test": "test", "is_train": "train"}
"""Columns that say of each row whether it is of a split; what is not of it is of train, or where that is it of test."""
_TRUTHS = {"true": "1", "false": "0", "1": "1", "0": "0", "1.0": "1", "0.0": "0", "yes": "1", "no": "0"}
_NO_TABLE = frozenset(["sample", "submission"])


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if box_table.matches(spec) or via.matches(spec):
        return False
    return path.suffix.lower() in SUFFIXES or (path.is_dir() and bool(_tables_in(path, ambiguous=True)))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError, with the row's number, for every row that is not one path and its labels."""
    parts: dict[str, _Table] = {}
    wanted: tuple[str, ...] | None = None  # the label columns, by the first table, normally that of training
    for split, file in _files(config.path).items():
        text = read_table(file, config.encoding)
        if wanted and not set(wanted) <= set(text.header):
            console.note(f"{file}: left out, since it has no column {' and '.join(map(repr, wanted))}")
            continue
        table = _parse(text, config, wanted)
        wanted = table.label_columns
        parts |= table.by_split() if table.splits else {split: table}
    parts = {split: table for split, table in parts.items() if not _withheld(split, table)}
    folder = config.path if config.path.is_dir() else config.path.parent
    roots = {
        split: os.fsencode(Path(config.root).expanduser() if config.root else table.file.parent)
        for split, table in parts.items()
    }
    groups = encode_groups({split: table.groups for split, table in parts.items()}) if config.group_column else {}
    sources: dict[str, Source] = {
        split: Files(
            targets=np.empty(0, np.float32),
            kind="none",
            classes=(),
            groups=groups.get(split),
            times=encode_times(table.times, table.place) if config.time_column else None,
            root=roots[split],
            paths=Strings.of(find_files(roots[split], table.paths, split)),
        )
        for split, table in parts.items()
    }
    if not config.labelled:
        return sources
    labels = encode(
        _raw(parts, config),
        kind=config.kind,
        classes=config.known_classes or classes_beside(folder),
        where=lambda split, i: parts[split].place(i),
        columns=wanted if wanted and len(wanted) > 1 else next(iter(parts.values())).label_columns if parts else (),
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
        for split in SPLITS:
            if chosen := [i for i, each in enumerate(self.splits) if each == split]:
                parts[split] = replace(
                    self,
                    splits=[],
                    paths=_at(self.paths, chosen),
                    cells=_at(self.cells, chosen),
                    rows=_at(self.rows, chosen),
                    groups=_at(self.groups, chosen),
                    times=_at(self.times, chosen),
                )
        return parts

    def expect_numbers(self, name: str, column: Sequence[str]) -> None:
        for row, value in zip(self.rows, column, strict=True):
            try:
                float(value)
            except ValueError:
                raise UserError(
                    f"{self.file}: row {row}: {value!r} in column {name!r} is not a number; correct it, or name the "
                    "columns of labels with label_columns="
                ) from None


def _at(column: list[Cell], chosen: list[int]) -> list[Cell]:
    return [column[i] for i in chosen] if column else []


def _missing(cell: str) -> bool:
    return cell.lower() in ("", "nan")


def _withheld(split: str, table: _Table) -> bool:
    """Whether a split other than train has no labels at all; others with none are errors."""
    without = [i for i, cells in enumerate(table.cells) if any(map(_missing, cells))]
    if without and split != "train" and len(without) == len(table.cells):
        console.note(f"{table.file}: the {split} split is left out, since it has no labels")
        return True
    if without:
        raise UserError(f"{table.place(without[0])}: the label is missing; fill it in or remove the row")
    return False


def _refuse_objects(parts: dict[str, _Table], names: Sequence[str]) -> None:
    """Refuse lists of regions in cells, as Label Studio's tables have them: each would be a class."""
    for table in parts.values():
        if (row := next((i for i, cells in enumerate(table.cells) if cells[0].startswith("[{")), None)) is not None:
            raise UserError(
                f"{table.place(row)}: the label in column {names[0]!r} is a list of regions; export the annotations as "
                "COCO or JSON, or name the column of labels with label_columns="
            )


def _digits(column: Sequence[str]) -> list[str]:
    """A column of ``True`` and ``False`` as 1 and 0; another as it is."""
    wordy = {cell.lower() for cell in column} <= {"true", "false"}
    return [_TRUTHS[cell.lower()] if wordy else cell for cell in column]


def _raw(parts: dict[str, _Table], config: SourceConfig) -> dict[str, Raw]:
    """The labels of all splits, told from all of them together whether they are numbers."""
    kind = None if config.kind == "auto" else targets.load(config.kind)
    raw: dict[str, Raw] = {}
    names = next(iter(parts.values())).label_columns if parts else ()
    if len(names) > 1:
        for split, table in parts.items():
            texts = [_digits([cells[place] for cells in table.cells]) for place in range(len(names))]
            for name, column in zip(names, texts, strict=True):
                table.expect_numbers(name, column)
            columns = [from_cells(each, None, numeric=True) for each in texts]
            raw[split] = np.stack([np.asarray(column) for column in columns], axis=1)
        return raw
    cells = {split: [row[0] for row in table.cells] for split, table in parts.items()}
    every = [cell for column in cells.values() for cell in column]
    _refuse_objects(parts, names)
    separator = config.label_separator
    if separator is None and (kind is None or kind.separated):
        separator = next((mark for mark in "|;" if any(mark in cell for cell in every)), None) or joined_by(every)
    if kind is not None and kind.numeric:
        for split, table in parts.items():
            table.expect_numbers(names[0], cells[split])
    values, begin = from_cells(every, separator, numeric=None if kind is None else kind.numeric), 0
    for split, own in cells.items():
        raw[split] = values[begin : begin + len(own)]
        begin += len(own)
    return raw


def _files(path: Path) -> dict[str, Path]:
    return _tables_in(path) if path.is_dir() else {"train": path}


def _tables_in(folder: Path, *, ambiguous: bool = False) -> dict[str, Path]:
    """The tables of a folder by split; one table alone is of train where it lists files of the folder.

    Args:
        ambiguous: do not raise an error for two tables of a split.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    files = [
        folder / name
        for name in names
        if name.lower().endswith(SUFFIXES)
        and not (name.startswith(".") or is_system(os.fsencode(name)) or _NO_TABLE.intersection(words(name)))
        and (folder / name).is_file()
    ]
    found: dict[str, Path] = {}
    for split in SPLITS:
        named = [file for file in files if split_called(file.stem) == split]
        exact = [file for file in named if len(words(file.stem)) == 1]
        if (chosen := exact or named) and len({file.stem for file in chosen}) > 1 and not ambiguous:
            raise UserError(
                f"{folder} holds {chosen[0].name} and {chosen[1].name}, both for {split}; give one of them, or keep one"
            )
        if chosen:
            found[split] = chosen[0]
    if "train" in found:
        return found
    if found:
        return {}
    if alone := _alone(files):
        return {"train": alone}
    inner: dict[str, Path] = {}  # train/metadata.csv, test/metadata.csv
    for name in names:
        if (meant := split_called(name)) and meant not in inner and (folder / name).is_dir():
            tables = [file for suffix in SUFFIXES for file in sorted((folder / name).glob(f"*{suffix}"))]
            if table := _alone(tables):
                inner[meant] = table
    return {split: inner[split] for split in SPLITS if split in inner} if "train" in inner else {}


def _alone(files: Sequence[Path]) -> Path | None:
    """The one table that is named as one and lists images near it."""
    found = [file for file in files if _TABLE_WORDS.intersection(words(file.stem)) and _lists_files(file)]
    return found[0] if len(found) == 1 else None


def _lists_files(file: Path) -> bool:
    """Whether the first rows of a table name images near it."""
    header, rows = peek(file, None)
    column = path_column_of(header)
    if column is None or not rows:
        return False
    root, at = os.fsencode(file.parent), header.index(column)
    written = [os.fsencode(row[at].strip()) for row in rows[:8]]
    try:
        found = find_files(root, written, "train")
    except UserError:
        return False
    return any(os.path.isfile(os.path.join(root, path)) for path in found)


def path_column_of(header: Sequence[str]) -> str | None:
    """The column of paths or ids, by its name."""
    ids = [name for wanted in ID_COLUMNS for name in header if name.lower() == wanted]
    return next((name for name in header if name.lower() in PATH_COLUMNS), ids[0] if ids else None)


def _parse(text: TextTable, config: SourceConfig, wanted: tuple[str, ...] | None) -> _Table:
    file, header = text.file, text.header
    for name in header:
        text.require_text(1, name)
    path_column, label_columns, split_column = _columns(text, config, wanted)
    path_at, label_at = header.index(path_column), [header.index(name) for name in label_columns]
    split_at = None if split_column is None else header.index(split_column)
    group_at, time_at = (
        None if column is None else header.index(column) for column in (config.group_column, config.time_column)
    )
    table = _Table(file, label_columns, [], [], [], [], [], [])
    seen: dict[bytes, int] = {}
    for row, cells in text.rows:
        path = os.fsencode(cells[path_at].strip())
        if not path:
            raise UserError(f"{file}: row {row}: the path is missing; fill it in or remove the row")
        if b"\0" in path:
            raise UserError(f"{file}: row {row}: the path {cells[path_at]!r} holds a NUL, which none can; correct it")
        if path in seen:
            raise UserError(
                f"{file}: row {row}: {cells[path_at]!r} is listed already in row {seen[path]}; keep one "
                "(several labels of an image stand in one cell: cat|dog)"
            )
        seen[path] = row
        if _is_in_another_encoding(text, cells[path_at].strip(), config):
            text.require_text(row, cells[path_at])
        for at in (*label_at, split_at, group_at, time_at):
            if at is not None:
                text.require_text(row, cells[at])
        if split_at is not None:
            split = _split_of(split_column or "", cells[split_at].strip())
            if split is None:
                raise UserError(f"{file}: row {row}: the split {cells[split_at]!r} is none of {', '.join(SPLITS)}")
            table.splits.append(split)
        for what, at, column in (("group", group_at, table.groups), ("time", time_at, table.times)):
            if at is not None:
                if not (cell := cells[at].strip()):
                    raise UserError(f"{file}: row {row}: the {what} is missing; fill it in or remove the row")
                column.append(cell)
        table.paths.append(path)
        table.cells.append(tuple(cells[at].strip() for at in label_at))
        table.rows.append(row)
    return table


def _is_in_another_encoding(text: TextTable, path: str, config: SourceConfig) -> bool:
    """Whether a path of foreign bytes leads nowhere, and leads to a file once these are decoded as the table may be."""
    raw = os.fsencode(path)
    if path.isascii() or not any("\udc80" <= character <= "\udcff" for character in path):
        return False
    root = os.fsencode(Path(config.root).expanduser() if config.root else text.file.parent)
    decoded = os.fsencode(raw.decode(likely_encoding(text.file), "replace"))
    return not os.path.lexists(os.path.join(root, raw)) and os.path.lexists(os.path.join(root, decoded))


def _columns(
    text: TextTable, config: SourceConfig, wanted: tuple[str, ...] | None
) -> tuple[str, tuple[str, ...], str | None]:
    """The path column, the label columns and the column of splits, if there is one."""
    file, header = text.file, text.header
    extra = (config.group_column, config.time_column)
    for given in [config.path_column, *config.label_columns, *extra]:
        if given is not None and given not in header:
            raise UserError(f"{file} has no column {given!r}; {did_you_mean(given, header)}")
    path_column = config.path_column or path_column_of(header)
    if path_column is None:
        raise UserError(
            f"{file} has no column of paths in its first line ({', '.join(header)}); "
            "begin it with a line such as path,label or name the column with path_column="
        )
    split_column = next((name for name in header if _is_split_column(text, name)), None)
    if not config.labelled:
        return path_column, (), split_column
    others = tuple(
        name
        for name in header
        if name not in (path_column, split_column, *extra) and name and not name.startswith("Unnamed:")
    )
    named = tuple(name for name in others if name.lower() in LABEL_COLUMNS)
    label_columns = config.label_columns or wanted or named[:1] or others
    if not label_columns:
        raise UserError(f"{file} has no label column; add one, or read it without labels with labelled=false")
    return path_column, label_columns, split_column


def _split_of(column: str, cell: str) -> str | None:
    if (own := _YES_OR_NO.get(column.lower())) is None:
        return split_called(cell)
    truth = _TRUTHS.get(cell.lower())
    return None if truth is None else own if truth == "1" else "test" if own == "train" else "train"


def _is_split_column(text: TextTable, name: str) -> bool:
    """A column that is called split, or in another way and holds nothing but names of splits, or ``is_valid``."""
    if name.lower() == SPLIT_COLUMN:
        return True
    if name.lower() not in (*SPLIT_COLUMNS, *_YES_OR_NO) or not text.rows:
        return False
    at = text.header.index(name)
    return all(_split_of(name, cells[at].strip()) for _, cells in text.rows)
