"""Training from the command line: from options to a run, its processes, its training and its report."""

# Annotations are evaluated here: as strings, cyclopts would look for their names in the modules of subclasses.

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from vitrail.checkpoints import known_weights
from vitrail.errors import MissingArgument, UserError, did_you_mean
from vitrail.terminal.next_command import DATA, IMAGE, name_next
from vitrail.terminal.options import AllowPickle, Encoding, MaxPixels, Page, Set, ValueRange, read_size
from vitrail.terminal.settings import Sets, changes

if TYPE_CHECKING:
    from vitrail.train.folder import RunFolder
    from vitrail.train.run import Run

Repeated: TypeAlias = Annotated[tuple[str, ...], Parameter(show_default=False)]
Switch: TypeAlias = Annotated[bool, Parameter(show_default=False)]
RUNS = Path("runs")


def augmentation_settings(name: str) -> dict[str, object]:
    """The settings that have a preset of this name: of images alone, of images with boxes or masks, or both.

    Raises:
        UserError: there is no such preset.
    """
    from vitrail.config import read_scalar
    from vitrail.data.transforms.augment import PRESETS
    from vitrail.data.transforms.scene_config import SCENE_PRESETS

    if not name.isidentifier():  # the settings themselves, as YAML
        return {"data.augment": read_scalar(name)}
    found = {path: name for path, known in (("data.augment", PRESETS), ("data.scenes", SCENE_PRESETS)) if name in known}
    if not found:
        raise UserError(f"unknown augmentation {name!r}; {did_you_mean(name, {**PRESETS, **SCENE_PRESETS})}")
    return dict(found)


def image_size_settings(text: str) -> dict[str, object]:
    """The setting of an image size such as ``224`` or ``224x320``. Raises as :func:`read_size`, but what any integer is
    worth, the config says."""
    return {"model.image_size": int(text) if re.fullmatch(r"-?\d+", text) else list(read_size(text))}


def range_settings(text: str) -> dict[str, object]:
    """The setting of a range of values such as ``0:4095``. Raises as :func:`vitrail.data.media.reading.read_range`."""
    from vitrail.data.media.reading import read_range

    return {"data.preprocess.reading.value_range": list(read_range(text))}


def normalize_settings(file: str) -> dict[str, object]:
    """Mean and standard deviation of each channel, as ``vitrail data stats --json`` writes them.

    Raises:
        UserError: the file holds none.
    """
    import json

    try:
        measured = json.loads(Path(file).read_bytes())["train"]
        mean, std = ([float(value) for value in measured[name]] for name in ("mean", "std"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}; check the path") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise UserError(
            f"{file} holds no measured mean and std of a train split; write it by: vitrail data stats DATA --json > "
            f"{file}"
        ) from None
    return {"data.preprocess.mean": mean, "data.preprocess.std": [max(value, 1e-6) for value in std]}


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingOptions:
    """Options of every training.

    Args:
        name: Name of the run's folder in runs/; default: from recipe, data and model.
        out: The run's folder, wherever it is to be; in place of --name.
        recipe: Start from a recipe, which the other options change.
        data: Where the data lies, in place of DATA; with --resume, where it lies now, if it is the same.
        config: Start from a file that vitrail config wrote, which the other options change.
        resume: Continue the run in this folder; --epochs can extend it.
        init: Start from weights, at another image size or for other classes too: a run folder, a file, or a name that
            vitrail models --pretrained lists.
        names: A table of names for --init of no known library, which vitrail inspect FILE --draft-names drafts.
        model: Size, as vitrail models lists them, of the recipe's or --init's architecture; default: theirs, else S/16.
        image_size: Input in pixels, 224 or height x width as 224x320; default: that of recipe or --init, else 224.
        channels: 1 for grey, 3 for RGB, 4 for RGBA; default: that of the recipe or of --init, else 3.
        epochs: Number of passes over the training images; default: the recipe's, else by the data, in pretraining 100.
        batch_size: Images per step, over all processes; default: the recipe's if the images fill it, else by the data.
        lr: Peak learning rate; default: the recipe's, else by the data, in pretraining 1e-3. Or --set optimizer.base_lr
            per 256 images a step.
        precision: Arithmetic; default: auto, which is bf16 on a GPU, and on a CPU where it measures faster.
        device: auto, cpu, cuda, cuda:1 or mps; default: auto.
        workers: Number of loader processes; default: by core count and image size.
        seed: Seed of all random numbers; default: 0.
        on_bad: At an unreadable training image: stop, or skip it and list it; default: error.
        log: tensorboard, wandb or mlflow, in addition to metrics.csv; can be repeated.
        download: Download the named data set, and the weights that --init names, where they are not on disk yet.
        processes: Number of training processes on this machine, usually one per GPU.
        restarts: Maximum number of restarts from the last saved state after a crash.
        report: Evaluate the best weights and write the report at the end.
        dry_run: Print the plan, draw one augmented batch, and stop there.
    """

    name: str | None = None
    out: Path | None = None
    recipe: str | None = None
    data: str | None = None
    config: Path | None = None
    resume: Path | None = None
    init: str | None = None
    names: Annotated[str | None, Parameter(metavar="TABLE"), Sets("init_names")] = None
    allow_pickle: Annotated[AllowPickle, Sets("allow_pickle")] = False
    model: str | None = None
    image_size: Annotated[
        str | None,
        Parameter(metavar="224 | 224x320"),
        Sets("model.image_size", fixed={"data.preprocess.size": None}, resolve=image_size_settings),
    ] = None
    channels: Annotated[int | None, Sets("model.channels", fixed={"data.preprocess.channels": None})] = None
    epochs: Annotated[int | None, Sets("epochs")] = None
    batch_size: Annotated[int | None, Sets("data.loader.batch_size")] = None
    lr: Annotated[float | None, Sets("optimizer.lr", fixed={"optimizer.base_lr": None})] = None
    augment: Annotated[
        str | None,
        Parameter(
            help="none, light, digits, small, plain, deit or deit3; for boxes, masks and class maps none, light, "
            "photos, digits, large, dense or any_side; default: the recipe's, else by the task."
        ),
        Sets("data.augment", "data.scenes", resolve=augmentation_settings),
    ] = None
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"] | None, Sets("precision")] = None
    device: Annotated[str | None, Sets("device")] = None
    workers: Annotated[int | None, Sets("data.loader.workers")] = None
    seed: Annotated[int | None, Sets("seed")] = None
    on_bad: Annotated[Literal["error", "skip"] | None, Sets("data.loader.on_bad")] = None
    encoding: Annotated[Encoding, Sets("data.source.encoding")] = None
    value_range: Annotated[ValueRange, Sets("data.preprocess.reading.value_range", resolve=range_settings)] = None
    page: Annotated[Page, Sets("data.preprocess.reading.page")] = None
    normalize: Annotated[
        Path | None,
        Parameter(help="A file of vitrail data stats --json: mean and deviation of each channel of its train split."),
        Sets("data.preprocess.mean", "data.preprocess.std", resolve=normalize_settings),
    ] = None
    max_pixels: MaxPixels = None
    log: Annotated[Repeated, Sets("loggers")] = ()
    download: Annotated[Switch, Sets("data.source.download")] = False
    processes: int = 1
    restarts: int = 0
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = True
    dry_run: Switch = False
    overrides: Set = ()

    def first_run(self, data: str | None, given: Mapping[str, object]) -> "Run":
        """The run to begin, before the settings that are given by path: that of the recipe or file, on ``data``.

        Raises:
            UserError: no such recipe or file.
        """
        from vitrail.terminal.runs import from_file, from_recipe

        if self.config is not None and self.recipe is not None:
            raise UserError("--config and --recipe both describe the whole run; give one of them")
        run = from_file(self.config) if self.config is not None else from_recipe(str(self.recipe))
        if data is None:
            return run
        return replace(run, data=replace(run.data, source=replace(run.data.source, spec=data)))


def start(data: str | None, options: TrainingOptions) -> int:
    """Train, or continue, and report; returns the exit code."""
    if data is not None and options.data is not None:
        raise UserError("--data and DATA both say where the data lies; give one of them")
    if data is not None and options.resume is not None:
        raise UserError(
            "DATA is the run's own when it resumes; leave it out, say with --data where it lies now, or begin another "
            "run with --name"
        )
    data = data or options.data
    folder = options.resume or new_folder(data, options)
    if options.download and options.init is not None:
        known_weights.download(options.init)
    from vitrail.train import launch

    if (options.processes > 1 or options.restarts) and not launch.is_watched() and not options.dry_run:
        complete = folder / "summary.json"
        command = [sys.executable, "-m", "vitrail", *sys.argv[1:]]
        limits = {"processes": options.processes, "restarts": options.restarts}
        return launch.watch(command, **limits, is_complete=complete.exists)

    from vitrail.console import note
    from vitrail.train.distributed import RankLost
    from vitrail.train.folder import RunFolder
    from vitrail.train.loop import fit

    place, run = RunFolder(folder), requested(data, options)
    if options.dry_run:
        from vitrail.terminal.dry_run import dry_run

        return dry_run(run, folder, extend=options.resume is not None)
    if not place.awaits_report(run):
        try:
            code = fit(run, folder, extend=options.resume is not None).exit_code
        except RankLost as error:
            note(f"vitrail: error: {error}")
            return launch.LOST
        if code:
            return code
    if int(os.environ.get("RANK", "0")) != 0:
        return 0
    if not options.report:
        name_next("report", folder)
    else:
        try:
            _report(place, run)
        except KeyboardInterrupt:
            finish = f"vitrail report {shlex.quote(str(folder))}"
            note(f"stopped while measuring; the weights are saved, and {finish} measures them")
            return 130
    return 0


def requested(data: str | None, options: TrainingOptions) -> "Run":
    """The run that the options describe.

    Raises:
        UserError: a mistake in them or in the data.
    """
    from vitrail.config import override, parse_assignments
    from vitrail.terminal.runs import filling_batches
    from vitrail.train.folder import RunFolder
    from vitrail.train.run import Run

    data = data or options.data
    given = _ordered(changes(options), parse_assignments(options.overrides, Run))
    if options.resume:
        return override(_resumed(RunFolder(options.resume), data, options), given)
    run = override(_begun(data, options, given), given)
    known = "data.loader.batch_size" in given or options.recipe is None or data is None
    return run if known else filling_batches(run, options.processes)


def _begun(data: str | None, options: TrainingOptions, given: Mapping[str, object]) -> "Run":
    """A new run with data, model and first weights as requested."""
    from vitrail.vit_presets import resized

    run = options.first_run(data, given)
    if options.model is not None:
        run = replace(run, model=resized(run.model, options.model))
    return replace(run, init=options.init or run.init)


def _resumed(place: "RunFolder", data: str | None, options: TrainingOptions) -> "Run":
    given = {
        "--out": options.out,
        "--recipe": options.recipe,
        "--config": options.config,
        "--init": options.init,
        "--model": options.model,
    }
    for written, value in given.items():
        if value is not None:
            raise UserError(f"{written} is the run's own when it resumes; leave it out, or begin another with --name")
    run = place.run()
    if data is None:
        return run
    return replace(run, data=replace(run.data, source=replace(run.data.source, spec=data, root=None)))


def new_folder(data: str | None, options: TrainingOptions) -> Path:
    """The folder of a new run.

    Raises:
        UserError: there is nothing to train on, or two names for it.
    """
    if options.out is None:
        return RUNS / (options.name or default_name(data, options))
    if options.name is not None:
        raise UserError("--out is the run's folder and --name its name in runs/; give one of them")
    return options.out


def default_name(data: str | None, options: TrainingOptions) -> str:
    """The name of a run's folder, from recipe, data and model.

    Raises:
        MissingArgument: there is nothing to train on.
    """
    if data is None and options.recipe is None and options.config is None:
        raise MissingArgument("nothing to train on; give a folder of pictures, --recipe NAME or --resume RUN")
    model = (options.model or "").replace("/", "-")
    start = options.recipe or (options.config.stem if options.config else "")
    parts = [start, Path(data.rpartition(":")[2] or data).stem if data else "", model]
    return "-".join(part for part in parts if part)


def _ordered(first: dict[str, object], then: dict[str, object]) -> dict[str, object]:
    """Both, ``then`` last, also where both change the same setting."""
    return {path: value for path, value in first.items() if path not in then} | then


def _report(place: "RunFolder", run: "Run") -> None:
    """Measure the best weights on held-out images, add the result to the summary, and print it."""
    from vitrail import registry, report
    from vitrail.console import table
    from vitrail.report.run_reader import RunReader
    from vitrail.report.training import shown

    page = report.write(place.path, device=run.device)
    measured = place.add_evaluation()
    if measured is not None:
        rows = shown(RunReader(place.path), measured["metrics"])
        print(table((f"{measured['split']} ({measured['images']:,} images)", "value"), rows))
    print(f"report: {page}")
    if run.task in registry.names("pretrain"):
        name_next("train", DATA, "--init", place.path)
    elif run.task in registry.names("generate"):
        name_next("generate", place.path)
    else:
        name_next("predict", place.path, IMAGE)
