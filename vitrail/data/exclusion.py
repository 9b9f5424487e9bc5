"""Samples to leave out, as a table names them: what `vitrail data check` finds can be given back to a training."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.media.decode import BadImage
from vitrail.data.media.text import read_text
from vitrail.data.source import Source
from vitrail.errors import UserError

COLUMNS = ("name", "path", "filename", "file")
"""What the column of names may be called, the first that is there."""


def exclude(found: Mapping[str, Source], file: Path) -> dict[str, Source]:
    """The splits without the samples that a ``.csv`` names, or a list, a name a line.

    A name is that of a sample, or the same file in another spelling.

    Raises:
        UserError: the file cannot be read, has no such column, or no name is of a sample.
    """
    names = read_names(file)
    known = names | {_real(name) for name in names}
    kept, dropped = {}, 0
    for split, source in found.items():
        out = np.array([_is_named(source.name(index), known) for index in range(len(source))], bool)
        dropped += int(out.sum())
        kept[split] = source.subset(np.flatnonzero(~out)) if out.any() else source
    if names and not dropped:
        raise UserError(f"{file} names {len(names):,} images, such as {min(names)!r}, and none is of this data")
    console.note(f"exclude: {dropped:,} images that {file} names are left out")
    return kept


def read_names(file: Path) -> set[str]:
    """The names in a table or list. Raises as :func:`exclude`."""
    try:
        text = read_text(file)
    except BadImage as error:
        raise UserError(f"{file} {error}; give the table of what to leave out") from None
    if file.suffix.lower() != ".csv":
        return {line.strip() for line in text.splitlines() if line.strip()}
    rows = csv.DictReader(io.StringIO(text))
    try:
        column = next((name for name in COLUMNS if name in (rows.fieldnames or ())), None)
        if column is None:
            raise UserError(f"{file} has no column {COLUMNS[0]!r}; name the column of images so")
        return {row[column].strip() for row in rows if row[column]}
    except csv.Error as error:
        raise UserError(f"{file} is no table: {error}; write it again") from None


def _is_named(name: str, known: set[str]) -> bool:
    return name in known or _real(name) in known


def _real(name: str) -> str:
    try:
        return os.path.realpath(name)
    except ValueError:  # of what is no path
        return name
