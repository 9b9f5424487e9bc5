"""Training from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli import _training
from vitrail.cli._options import Set
from vitrail.cli._training import Several

if TYPE_CHECKING:
    from vitrail.train.run import Run


def train(
    data: str | None = None,
    /,
    *,
    name: str | None = None,
    recipe: str | None = None,
    resume: Path | None = None,
    init: str | None = None,
    task: str | None = None,
    model: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    augment: str | None = None,
    freeze: Several = (),
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None,
    patience: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    on_bad: Literal["error", "skip"] | None = None,
    log: Several = (),
    download: Annotated[bool, Parameter(show_default=False)] = False,
    processes: int = 1,
    restarts: int = 0,
    report: Annotated[bool, Parameter(negative="--no-report", show_default=False)] = True,
    overrides: Set = (),
) -> int:
    """Train a model on pictures, evaluate it and write its report.

    The same command again continues a run that was interrupted. SIGTERM, SIGUSR1 and Ctrl-C save at the next step and
    leave with 143, 138 and 130; a user's mistake is 2, a lost process of several 75.

    Examples
      vitrail train photos/ --model S/16 --epochs 50
      vitrail train --recipe digits --name demo --set ema.decay=0.999
      vitrail train flowers/ --init runs/photos --image-size 384 --set optimizer.backbone_lr=0.1
      vitrail train --resume runs/photos --epochs 80

    Args:
        data: A folder, .csv, .npz, .tar or a data set's name.
        name: The run's folder below runs/; default: made of data and model, or the recipe's name.
        recipe: Start from a recipe, which the other options change.
        resume: Continue this run folder; --epochs may extend it.
        init: Start from the weights of a run folder or file, at another image size or for other classes too.
        task: classification, multilabel or regression; default: what the labels are.
        model: Architecture, as vitrail models lists them; default: S/16, or that of --init.
        image_size: Side of the input in pixels; default: 224, or that of --init.
        channels: 1 for grey, 3 for colour, 4 with transparency; default: 3, or that of --init.
        epochs: Passes over the training images; default: 100.
        batch_size: Images in a step, over all processes; default: 128.
        lr: Peak learning rate; default: 1e-3. Or --set optimizer.base_lr for 256 images a step.
        augment: none, light, digits, small, plain, deit or deit3; default: light.
        freeze: Parameters to keep as they are: backbone, or a pattern such as vit.embed.*; can be repeated.
        precision: Default: auto, which is bf16 on a GPU, and on a CPU where it measures faster.
        patience: Stop after so many evaluations without improvement.
        device: auto, cpu, cuda, cuda:1 or mps; default: auto.
        workers: Loader processes; default: by core count and image size.
        seed: Of everything random; default: 0.
        on_bad: At an unreadable training picture: error, or skip it and list it; default: error.
        log: tensorboard, wandb or mlflow, beside metrics.csv; can be repeated.
        download: Fetch a named data set that is not there yet.
        processes: Training processes on this machine, usually one a GPU.
        restarts: Start again from the last state after a crash, at most so many times.
        report: Evaluate the best weights and write the report at the end.
    """
    return _training.start(_training.given(locals()), _begun)


def _begun(given: dict[str, Any]) -> Run:
    """The recipe, or a start from scratch or from weights, before the options that change a setting."""
    return _training.from_recipe(given) if "recipe" in given else _plain(given)


def _plain(given: dict[str, Any]) -> Run:
    """The defaults for a data set: S/16 on lightly augmented images, or the model and preprocessing of ``--init``."""
    from vitrail.data import DataConfig, PreprocessConfig, SourceConfig, augmentation
    from vitrail.train.run import Run
    from vitrail.vit import preset

    model, preprocess, options = preset("S/16"), PreprocessConfig(), {}
    if "init" in given:
        from vitrail.config import to_dict
        from vitrail.outline import outline

        found = outline(given["init"])
        model, preprocess = found.task.vit.config, found.preprocess
        settings = to_dict(found.task.config)
        options = {name: settings[name] for name in ("pool", "head") if settings.get(name) is not None}
    data = DataConfig(source=SourceConfig(spec=given["data"]), preprocess=preprocess, augment=augmentation("light"))
    return Run(data=data, model=model, task_options=options)
