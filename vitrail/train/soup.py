"""A model soup in one run: further trainings from the same weights with other seeds, and the mean of them all.

Weights that were fine-tuned from the same start lie in one basin of the loss, and their mean is often better than each
(Wortsman et al. 2022); it costs no more than one of them at prediction time. The first member is the run itself, the
others lie in ``members/`` of its folder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitrail.build import open_checkpoint
from vitrail.checkpoints import native
from vitrail.console import note
from vitrail.files import Json
from vitrail.train.averaging import mean
from vitrail.train.folder import RunFolder
from vitrail.train.run import Run
from vitrail.trainable import Trainable, require_trainable

NAME = "soup"
"""Of the weights file."""


def others(run: Run, folder: RunFolder) -> list[tuple[Run, Path]]:
    """The trainings besides the run's own, each with its folder."""
    return [
        (replace(run, members=1, seed=run.seed + number - 1, loggers=()), folder.path / "members" / str(number))
        for number in range(2, run.members + 1)
    ]


def complete(run: Run, folder: Path, *, extend: bool) -> bool:
    """Whether nothing of a member is left to train."""
    summary = RunFolder(folder).read_summary()
    return summary is not None and not (extend and int(summary["epochs"]) < run.epochs)


def averaged(folder: RunFolder, name: str, run: Run) -> tuple[Trainable, dict[str, Json]]:
    """The mean of the run's own weights ``name`` and those of the other members, on the CPU, and what its file says of
    the training."""
    files = [folder.weights(name)]
    for _, place in others(run, folder):
        files.append(place / str((RunFolder(place).read_summary() or {})["weights"]))
    found = [open_checkpoint(file) for file in files]
    state = mean([each.read() for each in found])
    note(f"the weights of {len(files)} trainings are averaged")
    training = native.read_meta(files[0]).get("training", {})
    return require_trainable(replace(found[0], read=lambda: state).load()), training | {"members": len(files)}
