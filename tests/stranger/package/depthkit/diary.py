"""The logger: one line for each epoch in ``diary.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class Logger:
    """Args:
    folder: of the run.
    start_epoch: epochs that are done already, where a run is resumed.
    """

    def __init__(self, folder: Path, start_epoch: int) -> None:
        self.path = folder / "diary.txt"

    def log(self, row: Mapping[str, float]) -> None:
        """``row`` is one line of ``metrics.csv``."""
        with self.path.open("a") as file:
            file.write(f"epoch {row['epoch']}: loss {row['train_loss']:.3f}\n")

    def close(self) -> None:
        """At the end of the training."""
