"""What the verbs that train share: from options to a run, its processes, its training and its report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from vitrail.cli._options import Set
from vitrail.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from vitrail.train.folder import RunFolder
    from vitrail.train.run import Run

Several: TypeAlias = Annotated[tuple[str, ...], Parameter(show_default=False)]
Switch: TypeAlias = Annotated[bool, Parameter(show_default=False)]
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
    "distill": ["distill.teacher"],
    "distill_kind": ["distill.kind"],
    "allow_pickle": ["distill.allow_pickle"],
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


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Options that all training takes.

    Args:
        name: The run's folder below runs/; default: made of recipe, data and model.
        recipe: Start from a recipe, which the other options change.
        resume: Continue this run folder; --epochs may extend it.
        init: Start from the weights of a run folder or file, at another image size or for other classes too.
        model: Architecture, as vitrail models lists them; default: that of the recipe or of --init, else S/16.
        image_size: Side of the input in pixels; default: that of the recipe or of --init, else 224.
        channels: 1 for grey, 3 for colour, 4 with transparency; default: that of the recipe or of --init, else 3.
        epochs: Passes over the training images; default: the recipe's, else 100.
        batch_size: Images in a step, over all processes; default: the recipe's, else 128.
        lr: Peak learning rate; default: the recipe's, else 1e-3. Or --set optimizer.base_lr for 256 images a step.
        augment: none, light, digits, small, plain, deit or deit3, and where boxes move along none, light, digits,
            large or any_side; default: the recipe's, else light.
        precision: Default: auto, which is bf16 on a GPU, and on a CPU where it measures faster.
        device: auto, cpu, cuda, cuda:1 or mps; default: auto.
        workers: Loader processes; default: by core count and image size.
        seed: Of everything random; default: 0.
        on_bad: At an unreadable training picture: error, or skip it and list it; default: error.
        log: tensorboard, wandb or mlflow, beside metrics.csv; can be repeated.
        download: Fetch a named data set that is not there yet.
        processes: Training processes on this machine, usually one a GPU.
        restarts: Start again from the last state after a crash, at most so many times.
        report: Measure the best weights and write the report at the end.
    """

    name: str | None = None
    recipe: str | None = None
    resume: Path | None = None
    init: str | None = None
    model: str | None = None
    image_size: int | None = None
    channels: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    augment: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    device: str | None = None
    workers: int | None = None
    seed: int | None = None
    on_bad: Literal["error", "skip"] | None = None
    log: Several = ()
    download: Switch = False
    processes: int = 1
    restarts: int = 0
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = True
    overrides: Set = ()

    def given(self, **more: Any) -> dict[str, Any]:
        """Those that were given, and of ``more``."""
        options = {**vars(self), **more}
        kept = {key: value for key, value in options.items() if not (value is None or value is False or value == ())}
        return kept | {"report": self.report}


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

    from vitrail.presets import preset

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
        settings = _augmented(text) if option == "augment" else SETTINGS[option]
        changes += [f"{path}={text}" for path in settings]
    return [*changes, "optimizer.base_lr=null"] if "lr" in given else changes  # a recipe may have set the other


def _augmented(preset: str) -> list[str]:
    """The settings that have such a preset: images alone and scenes have some of the same name."""
    from vitrail.data.transforms.augment import PRESETS
    from vitrail.data.transforms.scene import SCENE_PRESETS

    known: dict[str, Any] = {"data.augment": PRESETS, "data.scenes": SCENE_PRESETS}
    found = [path for path, presets in known.items() if preset in presets]
    if not found and preset.isidentifier():
        raise UserError(f"unknown augmentation {preset!r}; {did_you_mean(preset, {**PRESETS, **SCENE_PRESETS})}")
    return found or SETTINGS["augment"]


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
