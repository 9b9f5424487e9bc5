"""A training for each fold from the command line, and what they reach together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vitrail.errors import UserError
from vitrail.terminal.training import new_folder, start

if TYPE_CHECKING:
    from vitrail.cli.train import TrainOptions


def start_folds(data: str | None, options: TrainOptions, folds: int) -> int:
    """Train, or continue, fold by fold in runs/NAME/fold-1 and so on; returns the exit code.

    Raises:
        UserError: several processes, which train one fold at a time, or a mistake in the training of a fold.
    """
    if options.processes > 1 or options.restarts:
        raise UserError("several processes train one fold at a time; add --fold 1, then --fold 2 and so on")
    from vitrail.console import note, table
    from vitrail.report.run_reader import RunReader
    from vitrail.report.training import headline
    from vitrail.train.cross_validation import complete, summarise

    folder = new_folder(data, options)
    for fold in range(1, folds + 1):
        place = folder / f"fold-{fold}"
        if complete(place):
            note(f"fold {fold} of {folds}: {place} is complete; choose another --name to train it anew")
            continue
        note(f"fold {fold} of {folds}: {place}")
        if code := start(data, replace(options, name=None, out=place, fold=fold)):
            return code
    result = summarise([folder / f"fold-{fold}" for fold in range(1, folds + 1)])
    result.save(folder / "folds.json")
    first = RunReader(result.folders[0])
    rows = [result.row(metric, headline(first, metric)) for metric in result.metrics]
    print(table((f"{folds} folds", "mean", "standard deviation", "95% interval of the mean"), rows))
    note(f"written: {folder / 'folds.json'}")
    return 0
