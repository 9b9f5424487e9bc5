"""What the verbs that train share: from options to a run, its processes, its training and its report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from vitrail.errors import UserError

if TYPE_CHECKING:
    from vitrail.train.folder import RunFolder
    from vitrail.train.run import Run

Several: TypeAlias = Annotated[tuple[str, ...], Parameter(show_default=False)]
RUNS = Path("runs")
# option: the settings of a run that it changes
SETTINGS = {
    "task": ["task"],
    "image_size": ["model.image_size", "data.preprocess.size"],
    "channels": ["model.channels", "data.preprocess.channels"],
    "epochs": ["epochs"],
    "batch_size": ["data.loader.batch_size"],
    "lr": ["optimizer.lr"],
    "augment": ["data.augment"],
    "freeze": ["freeze"],
    "precision": ["precision"],
    "patience": ["patience"],
    "device": ["device"],
    "workers": ["data.loader.workers"],
    "seed": ["seed"],
    "on_bad": ["data.loader.on_bad"],
    "log": ["loggers"],
    "download": ["data.source.download"],
}


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a verb that were given."""
    return {key: value for key, value in options.items() if not (value is None or value is False or value == ())} | {
        "report": options["report"]
    }


def start(given: dict[str, Any], begin: Callable[[dict[str, Any]], Run]) -> int:
    """Train, or continue, and report; the exit code.

    Args:
        given: options by name.
        begin: the run to begin, before the options of :data:`SETTINGS` change it.
    """
    resume = given.get("resume")
    folder = resume if resume is not None else RUNS / (given.get("name") or _default_name(given))
    processes, restarts = given.get("processes", 1), given.get("restarts", 0)
    from vitrail.train import launch

    if (processes > 1 or restarts) and not launch.is_watched():
        complete = folder / "summary.json"
        command = [sys.executable, "-m", "vitrail", *sys.argv[1:]]
        return launch.watch(command, processes=processes, restarts=restarts, is_complete=complete.exists)

    from vitrail.config import override
    from vitrail.console import note
    from vitrail.train.distributed import RankLost
    from vitrail.train.folder import RunFolder
    from vitrail.train.loop import fit

    place = RunFolder(folder)
    run = _resumed(place, given) if resume is not None else _begun(given, begin)
    run = override(run, [*_assignments(given), *given.get("overrides", ())])
    if not place.awaits_report(run):
        try:
            code = fit(run, folder, extend=resume is not None).exit_code
        except RankLost as error:
            note(f"vitrail: error: {error}")
            return launch.LOST
        if code:
            return code
    if given["report"] and int(os.environ.get("RANK", "0")) == 0:
        _report(place, run)
    return 0


def from_recipe(given: dict[str, Any]) -> Run:
    """The recipe that was asked for, on the data that was."""
    import dataclasses

    from vitrail import registry

    run: Run = registry.load("recipes", given["recipe"]).run()
    if "data" in given:
        source = dataclasses.replace(run.data.source, spec=given["data"])
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
    return run


def _begun(given: dict[str, Any], begin: Callable[[dict[str, Any]], Run]) -> Run:
    """Data, model and first weights as asked."""
    import dataclasses

    from vitrail.vit import preset

    run = begin(given)
    if "model" in given:
        kept = {"image_size": run.model.image_size, "channels": run.model.channels}
        run = dataclasses.replace(run, model=preset(given["model"], **kept))
    return dataclasses.replace(run, init=given.get("init", run.init))


def _default_name(given: dict[str, Any]) -> str:
    data, recipe, model = (given.get(key) for key in ("data", "recipe", "model"))
    if data is None and recipe is None:
        raise UserError("nothing to train on; give a folder of pictures, --recipe NAME or --resume RUN")
    parts = [recipe or "", Path(data.rpartition(":")[2] or data).stem if data else "", (model or "").replace("/", "-")]
    return "-".join(part for part in parts if part)


def _assignments(given: dict[str, Any]) -> list[str]:
    """The options as ``--set`` would have them."""
    changes = []
    for option in SETTINGS.keys() & given.keys():
        text = given[option] if isinstance(given[option], str) else json.dumps(given[option])
        changes += [f"{path}={text}" for path in SETTINGS[option]]
    return [*changes, "optimizer.base_lr=null"] if "lr" in given else changes  # a recipe may have set the other


def _resumed(place: RunFolder, given: dict[str, Any]) -> Run:
    for option in ("data", "recipe", "init", "model"):
        if option in given:
            written = "DATA" if option == "data" else f"--{option}"
            raise UserError(f"{written} is the run's own when it resumes; leave it out, or begin another with --name")
    return place.run()


def _report(place: RunFolder, run: Run) -> None:
    """Measure the best weights on held-out images, add that to the summary, print it and where the report is."""
    from vitrail import report
    from vitrail.console import table

    page = report.write(place.path, device=run.device)
    measured = place.add_evaluation()
    if measured is not None:
        rows = [(key, f"{value:.4f}") for key, value in measured["metrics"].items() if value is not None]
        print(table((f"{measured['split']} ({measured['images']} images)", "value"), rows))
    print(f"report: {page}")
