"""What happened while a run learned: its curves, and a batch as the model saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail import registry
from vitrail.data.batch import Batch, tensor_targets, views_of
from vitrail.data.inspection.drawn import on_picture
from vitrail.data.targets import SPATIAL
from vitrail.outline import TASKS
from vitrail.report.figures import curves
from vitrail.report.figures.tiles import Tile
from vitrail.report.pictures import beside, denormalised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.report.record import Record

NUM_SAMPLES = 24
NUM_STRIPS, STRIP_HEIGHT = 6, 96
MAX_NAMED = 2  # classes of a mixed image


def figures(record: Record) -> dict[str, Figure]:
    """Loss, its parts, learning rate, and the metric that decided which weights are best; what was logged of them."""
    monitor, mode = monitored(record)
    drawn = {}
    losses = {label: record.curve(f"{split}_loss") for split, label in (("train", "train"), ("val", "validation"))}
    if measured := {label: curve for label, curve in losses.items() if curve is not None}:
        drawn["loss"] = curves.learning_curve("Loss", measured)
    if monitor is not None and (parts := _parts(record)):
        drawn["loss_parts"] = curves.learning_curve("Parts of the training loss", parts)
    if (curve := record.curve("lr")) is not None:
        drawn["learning_rate"] = curves.learning_rate(*curve)
    if monitor is None:
        return drawn | _monitors(record)
    if (curve := record.curve(f"val_{monitor}")) is not None:
        drawn[monitor] = curves.learning_curve(f"Validation {label_of(record, monitor)}", {"validation": curve}, mode)
    return drawn


def samples(record: Record) -> list[Tile]:
    """The first images of the first training batch, augmented as the run did, with their targets."""
    from vitrail.data import open_data

    data = open_data(record.data)
    batch = next(iter(data.train_loader(seed=record.config["seed"]).batches(epoch=0)))
    if record.data.views:
        return _views(batch, record)
    images = denormalised(batch["images"][:NUM_SAMPLES], record.data.preprocess.resolve())
    if data.kind in SPATIAL:
        objects: Any = batch["targets"]
        shown = (on_picture(image, objects[i], data.classes) for i, image in enumerate(images))
        return [Tile(image, "") for image in shown]
    targets = tensor_targets(batch)[:NUM_SAMPLES].numpy() if "targets" in batch else [None] * len(images)
    return [
        Tile(image, *_described(target, data.kind, data.classes)) for image, target in zip(images, targets, strict=True)
    ]


def _parts(record: Record) -> dict[str, curves.Curve]:
    """What the training loss was made of, as that of the labels and that of a teacher."""
    named = {name: record.curve(f"train_{name}") for name in _logged(record) if name.endswith("_loss")}
    return {name.removesuffix("_loss"): curve for name, curve in named.items() if curve is not None}


def _monitors(record: Record) -> dict[str, Figure]:
    """Every other number that was logged of losses and features, in training and validation."""
    drawn = {}
    for name in _logged(record):
        both = {label: record.curve(f"{split}_{name}") for split, label in (("train", "train"), ("val", "validation"))}
        if name != "loss" and (measured := {label: curve for label, curve in both.items() if curve is not None}):
            drawn[name] = curves.learning_curve(label_of(record, name).capitalize(), measured)
    return drawn


def _logged(record: Record) -> list[str]:
    """What was logged of training or validation, in order."""
    columns = (column for column in record.history if column.startswith(("train_", "val_")))
    return list(dict.fromkeys(column.partition("_")[2] for column in columns))


def _views(batch: Batch, record: Record) -> list[Tile]:
    """The views of the first images, an image a strip."""
    views = [denormalised(view[:NUM_STRIPS], record.data.preprocess.resolve()) for view in views_of(batch)]
    return [Tile(beside(list(strip), STRIP_HEIGHT), "") for strip in zip(*views, strict=True)]


def monitored(record: Record) -> tuple[str | None, Any]:
    """The metric that the task watches, if any, and whether ``max`` or ``min`` is best."""
    task = registry.load_from(TASKS, record.config["task"]).Task
    return task.monitor, task.monitor_mode


def label_of(record: Record, metric: str) -> str:
    """A metric's name for people."""
    task = record.config["task"]
    family = "representation" if task in registry.names("pretrain") else task
    known = registry.load("report.families", family).HEADLINES if family in registry.names("report.families") else {}
    return known[metric].label if metric in known else metric.replace("_", " ")


def _described(target: Any, kind: str, names: tuple[str, ...]) -> tuple[str, str]:
    """A target as title and note."""
    if target is None:
        return "", ""
    if kind == "number":
        return ", ".join(f"{value:.4g}" for value in target[:4]), ""
    if target.ndim == 0:
        return names[int(target)], ""
    if kind == "multilabel":
        return ", ".join(names[i] for i in np.flatnonzero(target > 0.5)) or "none", ""
    top = np.argsort(-target, kind="stable")[:MAX_NAMED]
    shares = [(names[i], float(target[i])) for i in top if target[i] > 0.05]
    return shares[0][0], " + ".join(f"{name} {share:.0%}" for name, share in shares) if len(shares) > 1 else ""
