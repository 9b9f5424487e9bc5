"""Learning without labels from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli import _training
from vitrail.cli._options import Set
from vitrail.cli._training import Several

if TYPE_CHECKING:
    from vitrail.train.run import Run


def pretrain(
    data: str | None = None,
    /,
    *,
    method: str = "mae",
    name: str | None = None,
    recipe: str | None = None,
    resume: Path | None = None,
    init: str | None = None,
    model: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    augment: str | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None,
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
    """Learn from pictures without labels; vitrail train --init goes on from there.

    Every picture in the folder is used, whatever folder it lies in. Where there are labels they are not learned from,
    but nearest neighbours among held-out pictures tell how good the features are.

    Examples
      vitrail pretrain photos/ --method mae --model S/16 --epochs 200
      vitrail pretrain photos/ --method dino --batch-size 64
      vitrail train photos/ --init runs/dino-photos --set optimizer.layer_decay=0.75
      vitrail pretrain --resume runs/dino-photos --epochs 300

    Args:
        data: A folder, .csv, .npz, .tar or a data set's name.
        method: mae, simmim, masked_patch, colorize, rotation, dino, ibot, simclr or moco_v3.
        name: The run's folder below runs/; default: made of method, data and model.
        recipe: Start from this recipe; default: the method's, with its paper's settings.
        resume: Continue this run folder; --epochs may extend it.
        init: Start from the weights of a run folder or file.
        model: Architecture, as vitrail models lists them; default: the recipe's.
        image_size: Side of the input in pixels; default: 224.
        channels: 1 for grey, 3 for colour, 4 with transparency; default: 3.
        epochs: Passes over the training images; default: the paper's.
        batch_size: Images in a step, over all processes; default: 256. The learning rate of a recipe scales with it.
        lr: Peak learning rate. Or --set optimizer.base_lr for 256 images a step.
        augment: Of methods that see one view: none, light, digits, small, plain, deit or deit3.
        precision: Default: auto, which is bf16 on a GPU, and on a CPU where it measures faster.
        device: auto, cpu, cuda, cuda:1 or mps; default: auto.
        workers: Loader processes; default: by core count and image size.
        seed: Of everything random; default: 0.
        on_bad: At an unreadable picture: error, or skip it and list it; default: error.
        log: tensorboard, wandb or mlflow, beside metrics.csv; can be repeated.
        download: Fetch a named data set that is not there yet.
        processes: Training processes on this machine, usually one a GPU.
        restarts: Start again from the last state after a crash, at most so many times.
        report: Measure the features and write the report at the end.
    """
    given = _training.given(locals())
    return _training.start({"recipe": method, **given} if resume is None else given, _begun)


def _begun(given: dict[str, Any]) -> Run:
    """The method's recipe, or the one that was asked for."""
    import dataclasses

    from vitrail import registry
    from vitrail.errors import UserError, did_you_mean

    methods = registry.names("pretrain")
    if given["method"] not in methods and "." not in given["method"]:
        raise UserError(f"unknown method {given['method']!r}; {did_you_mean(given['method'], methods)}")
    if "data" not in given and given["recipe"] == given["method"]:
        raise UserError("nothing to learn from; give a folder of pictures, --recipe NAME or --resume RUN")
    run = _training.from_recipe(given)
    source = dataclasses.replace(run.data.source, labelled="auto")
    return dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
