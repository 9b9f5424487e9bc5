"""The files of a run folder, read without loading the model."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from vitrail import files, plain_yaml, registry
from vitrail.build import REGISTRIES
from vitrail.config import from_dict
from vitrail.console import printable
from vitrail.data import DataConfig, targets
from vitrail.errors import UserError
from vitrail.files import read_json
from vitrail.generate import Generative
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
        try:
            config = plain_yaml.parse(self._text("config.yaml"))
        except plain_yaml.YamlError as error:
            raise UserError(f"cannot read the config {self.folder / 'config.yaml'}: {error}; restore it") from None
        return _shaped(config, _CONFIG, self.folder / "config.yaml")

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
        return cast("type[Trainable]", registry.load_from(REGISTRIES, self.task, "Task", "Config").Task)

    @property
    def pretrained(self) -> bool:
        """Whether it was trained by a self-supervised method."""
        return issubclass(self.task_class, Pretraining)

    @property
    def draws(self) -> bool:
        """Whether it draws pictures."""
        return issubclass(self.task_class, Generative)

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
        file = self.folder / "metrics.csv"
        try:
            rows = list(csv.DictReader(self._text("metrics.csv").splitlines()))
            columns = {key: np.array([float(row[key] or "nan") for row in rows]) for key in (rows[0] if rows else ())}
        except (ValueError, TypeError, csv.Error):
            raise UserError(f"{file} holds what is no number; restore or remove it") from None
        if not (np.abs(columns.get("epoch", np.zeros(1))) < 2**53).all():
            raise UserError(f"{file} has a row without its epoch; restore or remove it")
        return columns

    @cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        summary, file = self._json("summary.json"), self.folder / "summary.json"
        return _shaped(summary, {name: kind for name, kind in _SUMMARY.items() if name in summary}, file)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """env.json."""
        return self._json("env.json")

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """data.json."""
        facts, file = self._json("data.json"), self.folder / "data.json"
        if not facts:
            return {}
        _shaped(facts, _DATA, file)
        counts, names = facts["counts"], facts["classes"]
        if any(type(count) is not int for count in counts.values()) or any(type(name) is not str for name in names):
            raise UserError(f"{file} has counts that are no integers, or classes that are no names; restore it")
        return facts

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
        if not path.is_file():
            return ""
        with open(path, encoding="utf-8", errors="surrogateescape", opener=files.regular) as file:
            return file.read()


_CONFIG: dict[str, Any] = {
    "task": str,
    "model": {"channels": int, "image_size": list | int, "patch_size": list | int, "dim": int, "depth": int},
    "data": {"source": {"spec": str}},
}
_DATA: dict[str, Any] = {
    "source": {"spec": str}, "sha256": str, "kind": str, "classes": list, "counts": {}, "bad_files": {},
}  # fmt: skip
_SUMMARY: dict[str, Any] = {"command_seconds": int | float, "weights": str, "epochs": int}
"""The settings and facts that a report reads, with their types."""


def _shaped(value: Any, shape: Mapping[str, Any], file: Path, prefix: str = "") -> dict[str, Any]:
    """The mapping as it is. Raises UserError where an entry of ``shape`` is missing or of another type."""
    if not isinstance(value, dict):
        raise UserError(f"{file} holds no mapping{f' {prefix[:-1]!r}' if prefix else ''}; restore it")
    for name, wanted in shape.items():
        if isinstance(wanted, dict):
            _shaped(value.get(name), wanted, file, f"{prefix}{name}.")
        elif not isinstance(value.get(name), wanted) or isinstance(value[name], bool):
            raise UserError(f"{file} has no {prefix + name!r} as a run writes it; restore it")
    return value
