"""Predictions as they come, on stdout: a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from vitrail.console import table
from vitrail.predictions import Prediction, RankedPrediction, SpatialPrediction

ROWS_AT_ONCE = 64  # of the table: as many are held back to align them


class Writer(Protocol):
    """Takes one result after the other."""

    def __call__(self, name: str, prediction: Prediction) -> None: ...


@contextmanager
def json_writer(top: int) -> Iterator[Writer]:
    """One array, an object a line."""
    separator = "[\n"

    def write(name: str, prediction: Prediction) -> None:
        nonlocal separator
        print(separator, json.dumps({"path": name, **prediction.to_dict(top)}), sep="", end="", flush=True)
        separator = ",\n"

    try:
        yield write
    finally:  # a complete document whatever happened
        print("[]" if separator == "[\n" else "\n]")


@contextmanager
def csv_writer(top: int) -> Iterator[Writer]:
    """A row for each of the best classes or of what was found, or one with all numbers."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []

    def write(name: str, prediction: Prediction) -> None:
        rows = _rows(prediction, top)
        if not header:
            header.extend(["path", *(prediction.columns if isinstance(prediction, SpatialPrediction) else rows[0])])
            writer.writerow(header)
        writer.writerows([name, *row.values()] for row in rows)

    yield write


@contextmanager
def table_writer(top: int) -> Iterator[Writer]:
    """A line a picture: the best class, and then the next ones; or all numbers."""
    waiting: list[dict[str, Any]] = []
    headed = False

    def flush() -> None:
        nonlocal headed
        if waiting:
            text = table(list(waiting[0]), [list(row.values()) for row in waiting])
            print(text if not headed else text.partition("\n")[2], flush=True)
            headed = True
            waiting.clear()

    def write(name: str, prediction: Prediction) -> None:
        waiting.append({"picture": name, **_line(prediction, top)})
        if len(waiting) == ROWS_AT_ONCE:
            flush()

    try:
        yield write
    finally:
        flush()


def in_words(prediction: Prediction) -> str:
    """The best class with its probability, what was found, or all numbers, on one line."""
    if isinstance(prediction, SpatialPrediction | RankedPrediction):
        return " ".join(value for value in _line(prediction, 1).values() if value)
    return ", ".join(f"{name} {value}" for name, value in _line(prediction, 1).items())


def _rows(prediction: Prediction, top: int) -> list[dict[str, Any]]:
    if isinstance(prediction, SpatialPrediction):
        return prediction.rows()
    if isinstance(prediction, RankedPrediction):
        ranked = enumerate(prediction.top(top), start=1)
        return [{"rank": rank, "label": label, "score": f"{score:.6g}"} for rank, (label, score) in ranked]
    return [_numbers(prediction)]


def _line(prediction: Prediction, top: int) -> dict[str, Any]:
    if isinstance(prediction, SpatialPrediction):
        return dict(prediction.summary(top))
    if not isinstance(prediction, RankedPrediction):
        return {name: f"{value:.4g}" for name, value in _numbers(prediction).items()}
    (label, score), *others = prediction.top(top)
    then = ", ".join(f"{name} {value:.1%}" for name, value in others)
    return (
        {"label": label, "score": f"{score:.1%}", "then": then}
        if top > 1
        else {"label": label, "score": f"{score:.1%}"}
    )


def _numbers(prediction: Prediction) -> dict[str, Any]:
    """The numbers by name, taken out of the dictionaries that group them."""
    flat: dict[str, Any] = {}
    for key, value in prediction.to_dict().items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
