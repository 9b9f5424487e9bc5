"""One table for everything that measures: rows of values, as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vitrail.console import html_table, table

R = TypeVar("R")


@dataclass(frozen=True)
class Column(Generic[R]):
    """One value of every row.

    Attributes:
        value: what a row has: plain JSON types; None where it has nothing.
        name: the heading in text; empty: the column is in JSON only.
        key: the key in JSON; empty: the column is in text only.
        unit: follows the heading.
        format: of a value as text, as for ``str.format``.
        missing: the text of None.
    """

    value: Callable[[R], object]
    name: str = ""
    key: str = ""
    unit: str = ""
    format: str = "{}"
    missing: str = "–"

    @property
    def heading(self) -> str:
        """Name and unit, such as ``p50 ms``."""
        return f"{self.name} {self.unit}".rstrip()

    def cell(self, row: R) -> str:
        """The value as text."""
        value = self.value(row)
        return self.missing if value is None else self.format.format(value)


@dataclass(frozen=True)
class ResultTable(Generic[R]):
    """Rows and what is shown and written of them."""

    columns: tuple[Column[R], ...]
    rows: tuple[R, ...]

    @property
    def headings(self) -> list[str]:
        """Of the columns in text."""
        return [column.heading for column in self._shown]

    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[column.cell(row) for column in self._shown] for row in self.rows]

    def to_dict(self) -> list[dict[str, object]]:
        """The rows as plain JSON types."""
        written = [column for column in self.columns if column.key]
        return [{column.key: column.value(row) for column in written} for row in self.rows]

    def __str__(self) -> str:
        return table(self.headings, self.cells())

    def _repr_html_(self) -> str:
        return html_table(self.headings, self.cells())

    @property
    def _shown(self) -> list[Column[R]]:
        return [column for column in self.columns if column.name]


class Tabular:
    """A result that shows its table: as text in a session, as HTML in a notebook."""

    @property
    def table(self) -> ResultTable[Any]:
        """The rows."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def size_text(size: tuple[int, int]) -> str:
    """(height, width) such as ``224×320``."""
    return "×".join(map(str, size))
