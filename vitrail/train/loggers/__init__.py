"""Loggers of training metrics, one a file: ``Logger(folder, start_epoch)`` with ``log(row)`` and ``close()``.

A row is one epoch: ``epoch`` (counted from 1), ``step``, ``lr``, ``train_loss``, ``gradient_norm``,
``images_per_second``, ``seconds``, and ``val_<metric>`` after an evaluation. A resumed run starts at
``start_epoch`` (counted from 0); rows from there on are written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from vitrail import registry

Row = dict[str, float | int]


class Logger(Protocol):
    """What a module of this folder provides as ``Logger``."""

    def __init__(self, folder: Path, start_epoch: int) -> None: ...

    def log(self, row: Row) -> None:
        """Write an epoch's numbers."""

    def close(self) -> None:
        """Flush."""


def open_loggers(names: Iterable[str], folder: Path, start_epoch: int) -> list[Logger]:
    """The named loggers and the CSV file."""
    wanted = dict.fromkeys(["csv", *names])
    return [registry.load("train.loggers", name, "Logger").Logger(folder, start_epoch) for name in wanted]
