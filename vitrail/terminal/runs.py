"""Runs that a user names: a recipe, a file, or the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrail import config as configs
from vitrail import registry
from vitrail.console import note
from vitrail.errors import UserError, did_you_mean

STEPS = 4  # of an epoch at least, where a recipe's batch is larger than the data

if TYPE_CHECKING:
    from vitrail.train.run import Run


def from_recipe(name: str) -> Run:
    """The run of a recipe.

    Raises:
        UserError: there is none of that name.
    """
    run: Run = registry.load("recipes", name).run()
    return run


def from_file(path: Path) -> Run:
    """The run that ``vitrail config`` or a training wrote, without permissions to run code.

    Raises:
        UserError: a missing or malformed file, or one that names modules to load.
    """
    from vitrail.train.run import Run

    run = configs.load(Run, path)
    registry.refuse_foreign(run.entries, str(path))
    return run.without_permissions


def named(name: str) -> Run:
    """The run of a recipe, of a run's folder or of a file.

    Raises:
        UserError: it is none of them.
    """
    from vitrail.train.folder import RunFolder

    path, recipes = Path(name), registry.names("recipes")
    if name in recipes:
        return from_recipe(name)
    if path.is_dir():
        return RunFolder(path).run()
    if path.is_file():
        return from_file(path)
    if "." in name:
        return from_recipe(name)
    raise UserError(f"there is no recipe, run or file {name!r}; {did_you_mean(name, recipes)}")


def filling_batches(run: Run, processes: int) -> Run:
    """A recipe's run with batches that the images fill, where they are fewer than a batch of the recipe."""
    from vitrail.train.opening import open_run

    train, batch_size = open_run(run)[1].splits.train, run.data.loader.batch_size
    if train is None or len(train) >= batch_size:
        return run
    fitting = max(len(train) // (STEPS * processes), 1) * processes
    note(f"data.loader.batch_size: {fitting} ({len(train)} images do not fill the recipe's {batch_size})")
    return configs.override(run, {"data.loader.batch_size": fitting})
