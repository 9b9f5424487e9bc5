"""Tables as text: their encoding, their separator, and their rows by line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import open_regular, read_regular
from vitrail.data.media.text import marked_encoding
from vitrail.errors import UserError

JSON_LINES = ".jsonl"
_EXAMPLE = '{"file_name": "1.png", "label": "cat"}'
SEPARATORS = "\t,;|"
_OTHERS = ("shift_jis", "gb18030")  # which refuse most of what is in neither
_SEP_LINE = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)  # Excel's


@dataclass(frozen=True)
class TextTable:
    """A table in memory: the cells of its first line, and of each other one with its number, blank ones left out.

    Bytes that are not UTF-8 are escaped as Python does it ("surrogateescape"), where no encoding is given.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def require_text(self, row: int, cell: str) -> None:
        """Check that a cell was decoded.

        Raises:
            UserError: with the row and encodings to name.
        """
        if any("\udc80" <= character <= "\udcff" for character in cell):
            raise UserError(
                f"{self.file}: row {row}: {cell!r} is not UTF-8; name the encoding of the table, as in "
                f"--encoding {likely_encoding(self.file)} (encoding={likely_encoding(self.file)}), or save it as UTF-8"
            )


def read_table(file: Path, encoding: str | None) -> TextTable:
    """The table in ``file``, with commas, semicolons, tabs or bars between cells.

    Args:
        encoding: None: UTF-8, or what a byte-order mark says.

    Raises:
        UserError: it cannot be read, is in another encoding than given, or has rows of other lengths than the first.
    """
    try:
        text = _decoded(file, read_regular(file, most=ANNOTATION_BYTES), encoding)
        header, *rows = [(row, tuple(cells)) for row, cells in _rows_of(file, text)] or [(1, ())]
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except csv.Error as error:
        raise UserError(f"{file} is no valid table: {error}; quote cells that hold quotes or line breaks") from None
    names = tuple(name.strip() for name in header[1])
    for row, cells in rows:
        if any(cells) and len(cells) != len(names):
            raise UserError(f"{file}: row {row}: {len(cells)} cells under {len(names)} columns; correct the row")
    return TextTable(file, names, tuple((row, cells) for row, cells in rows if any(cells)))


def peek(file: Path, encoding: str | None, num_bytes: int = 65_536) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, first rows) of a table; empty where it is none."""
    try:
        with open_regular(file) as stream:
            start = stream.read(num_bytes)
        if len(start) == num_bytes:
            start = start[: start.rfind(b"\n") + 1]
        header, *rows = [tuple(cells) for _, cells in _rows_of(file, _decoded(file, start, encoding))] or [()]
    except (OSError, csv.Error, UserError):
        return (), []
    return tuple(name.strip() for name in header), [row for row in rows if len(row) == len(header)]


def likely_encoding(file: Path) -> str:
    """An encoding that the bytes of a file may be in, as they are not in UTF-8."""
    data = read_regular(file, most=ANNOTATION_BYTES)
    if max(map(len, re.findall(rb"[\x80-\xff]+", data)), default=0) < 2:
        return "cp1252"  # single accented letters; characters of East Asia take two bytes and stand in runs
    for name in _OTHERS:
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "cp1252"


def _decoded(file: Path, data: bytes, encoding: str | None) -> str:
    marked = marked_encoding(data)
    if encoding is None and marked is None and b"\0" in data[:4096]:
        raise UserError(f"{file} is no text in UTF-8; save it so, or name its encoding, as in --encoding utf-16-le")
    if encoding is None and marked is None:
        return data.decode("utf-8", "surrogateescape")
    name = encoding or marked or "utf-8"
    if name.lower().replace("_", "-") == "utf-8" and marked == "utf-8-sig":
        name = "utf-8-sig"
    try:
        return data.decode(name, "surrogateescape" if name == "utf-8-sig" else "strict")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: row {row} is not in {name}; name another encoding, or save it as UTF-8") from None


def _rows_of(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    return _json_rows(file, text) if file.suffix.lower() == JSON_LINES else _rows(text)


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, cells) of objects, one a line, as Hugging Face's folders have them; the keys first."""
    entries: list[tuple[int, dict[str, object]]] = []
    for row, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise UserError(f"{file}: row {row} is no JSON object; write one a line, as {_EXAMPLE}")
        entries.append((row, entry))
    names = list(dict.fromkeys(name for _, entry in entries for name in entry))
    yield 1, names
    for row, entry in entries:
        yield row, [_json_cell(file, row, name, entry.get(name)) for name in names]


def _json_cell(file: Path, row: int, name: str, value: object) -> str:
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return "|".join(map(str, value))
    if isinstance(value, dict | list):
        raise UserError(
            f"{file}: row {row}: {name!r} holds more than a value or a list of them; write objects as COCO (.json) or "
            "as a table of boxes, or leave the column out"
        )
    return "" if value is None else str(value)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, cells)."""
    first, skipped = text.partition("\n")[0], 0
    if told := _SEP_LINE.fullmatch(first):
        separator, skipped = told[1], 1
        text = text.partition("\n")[2]
    else:
        bare = re.sub(r'"[^"]*"', "", first)
        separator = max(",\t;|", key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for cells in reader:
        yield reader.line_num + skipped, cells
