"""``metrics.csv``: one row per epoch. Always written, and never partial: each row replaces the file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from vitrail import files
from vitrail.errors import UserError
from vitrail.train.loggers import Row


class Logger:
    """Rows in a CSV file; a column that appears later is empty in earlier rows."""

    def __init__(self, folder: Path, start_epoch: int) -> None:
        self.path = folder / "metrics.csv"
        self.rows = [row for row in read(self.path) if int(row["epoch"]) <= start_epoch]

    def log(self, row: Row) -> None:
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for r in self.rows for key in r)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_text(self.path, text.getvalue())

    def close(self) -> None:
        """Nothing is open."""


def read(path: Path) -> list[Row]:
    """The rows of a ``metrics.csv``, without its empty cells; no file, no rows.

    Raises:
        UserError: it holds something else.
    """
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8", opener=files.regular) as file:
            rows: list[Row] = [
                {key: int(value) if key in ("epoch", "step") else float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, csv.Error):
        rows = [{}]
    if not all("epoch" in row for row in rows):
        raise UserError(f"{path} holds what is no number, or a row without its epoch; restore or remove it")
    return rows
