"""A search for the settings of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.cli.train import TrainOptions
from vitrail.terminal.next_command import name_next


def tune(
    data: str | None = None,
    /,
    *,
    trials: Annotated[int, Parameter(help="Number of trainings.")] = 20,
    search: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="A.B=LOW..HIGH",
            help="A setting to search: a range such as optimizer.lr=1e-5..1e-2:log or epochs=5..20, or choices such as "
            "data.augment=light|plain; can be repeated. Default: learning rate and weight decay.",
            show_default=False,
        ),
    ] = (),
    options: TrainOptions = TrainOptions(),  # noqa: B008  frozen
) -> int:
    """Search for settings with Optuna: several trainings, compared on the validation split.

    Takes the options of vitrail train. The trainings are in runs/NAME/trial-1 and so on; the same command continues an
    interrupted search, and more trials one that is complete. Prints the best settings.

    Examples
      vitrail tune photos/ --init runs/birds --epochs 5 --trials 20
      vitrail tune photos/ --search optimizer.lr=1e-5..1e-2:log --search "data.augment=light|plain"

    Args:
        data: A folder, .csv, .npz, .tar, COCO .json, YOLO .yaml or the name of a data set.
    """
    from vitrail.console import note, table
    from vitrail.errors import UserError
    from vitrail.report.run_reader import RunReader
    from vitrail.report.training import headline
    from vitrail.terminal.training import RUNS, default_name, requested
    from vitrail.train.tuning import shown
    from vitrail.train.tuning import tune as tuned

    if options.resume is not None or trials < 1:
        raise UserError("a search begins its own trainings, one or more; leave out --resume, and set --trials")
    folder = options.out or RUNS / (options.name or f"{default_name(data, options)}-tune")
    run = requested(data, options)
    rate = run.optimizer.peak_lr(run.data.loader.batch_size)
    default = {
        "optimizer.lr": f"{rate / 10:g}..{rate * 10:g}:log",
        "optimizer.weight_decay": "0.001..0.3:log",
    }
    if run.optimizer.base_lr is not None and not search:
        raise UserError(
            "the run has optimizer.base_lr; name what to search, as in --search optimizer.base_lr=1e-5..1e-2:log"
        )
    written = {path: text for path, _, text in (each.partition("=") for each in search)} or default
    result = tuned(run, folder, written, num_trials=trials)
    if result.ranked:
        line = headline(RunReader(Path(result.ranked[0].folder)), result.monitor)
        rows = [(trial.folder, line.show(trial.value), shown(trial.settings)) for trial in result.ranked[:10]]
        print(table(("trial", line.label, "settings"), rows))
    if not result.exit_code:
        note(f"best: {result.best.folder}; train with {shown(result.best.settings)}")
        name_next("report", result.best.folder)
    return result.exit_code
