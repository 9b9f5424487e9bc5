"""The files of a run folder, read without loading the model."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from vitrail import registry
from vitrail.build import REGISTRIES
from vitrail.config import from_dict
from vitrail.console import printable
from vitrail.data import DataConfig, targets
from vitrail.errors import UserError
from vitrail.files import read_json
from vitrail.pretrain import Pretraining
from vitrail.trainable import Trainable


@dataclass(frozen=True)
class RunReader:
    """A run folder. Files that the run has not written yet are read as empty.

    Raises:
        UserError: on opening a folder without config.yaml.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "config.yaml").is_file():
            where = printable(str(self.folder))
            raise UserError(f"{where!r} holds no run (no config.yaml); give a folder that `vitrail train` made")

    @property
    def name(self) -> str:
        """The folder's."""
        return printable(self.folder.resolve().name)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved run."""
        config: dict[str, Any] = yaml.safe_load(self._text("config.yaml"))
        return config

    @property
    def task(self) -> str:
        """The name of its task or pretraining method."""
        return str(self.config["task"])

    @cached_property
    def task_class(self) -> type[Trainable]:
        """The class of its task or pretraining method.

        Raises:
            UserError: a third party's module that is not imported yet.
        """
        registry.refuse_foreign([self.task], str(self.folder / "config.yaml"))
        return cast("type[Trainable]", registry.load_from(REGISTRIES, self.task).Task)

    @property
    def pretrained(self) -> bool:
        """Whether it was trained by a self-supervised method."""
        return issubclass(self.task_class, Pretraining)

    @property
    def outputs(self) -> str:
        """What ``classes`` in data.json names: classes or targets."""
        kind = self.dataset.get("kind", "none")
        registry.refuse_foreign([kind], str(self.folder / "data.json"))
        return "targets" if targets.load(kind).numeric else "classes"

    @cached_property
    def data(self) -> DataConfig:
        """The run's data section, ready to be opened."""
        where = str(self.folder / "config.yaml")
        data = from_dict(DataConfig, self.config["data"], where=where)
        registry.refuse_foreign(data.source.modules, where)
        return data

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv; a missing number is NaN."""
        rows = list(csv.DictReader(self._text("metrics.csv").splitlines()))
        return {key: np.array([float(row[key] or "nan") for row in rows]) for key in (rows[0] if rows else ())}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return self._json("summary.json")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """env.json."""
        return self._json("env.json")

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """data.json."""
        return self._json("data.json")

    @property
    def commands(self) -> list[str]:
        """The command lines of the run, one per session."""
        return self._text("command.txt").splitlines()

    def curve(self, column: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Epochs and finite values of a column; None if there are none."""
        if column not in self.history:
            return None
        measured = np.isfinite(self.history[column])
        return (self.history["epoch"][measured], self.history[column][measured]) if measured.any() else None

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_json(path) if path.is_file() else {}

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
