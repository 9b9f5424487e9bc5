"""The training of a run: its curves, and a batch after augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitrail.data.batch import Batch, views_of
from vitrail.metrics import mode_of
from vitrail.report.families import Family, Headline, find, load
from vitrail.report.figures import curves
from vitrail.report.figures.tiles import Tile
from vitrail.report.language import say
from vitrail.report.pictures import beside, denormalised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.report.run_reader import RunReader

SPLITS = (("train", "train"), ("val", "validation"))  # in metrics.csv and in words
NUM_SAMPLES = 24
NUM_STRIPS, STRIP_HEIGHT = 6, 96


def figures(record: RunReader) -> dict[str, Figure]:
    """Loss, its parts, learning rate, and the metric that selects the best weights; those that were logged."""
    monitor, mode = monitored(record)
    drawn = {}
    losses = {say(label): record.curve(f"{split}_loss") for split, label in SPLITS}
    if measured := {label: curve for label, curve in losses.items() if curve is not None}:
        drawn["loss"] = curves.learning_curve(say("Loss"), measured)
    if monitor is not None and (parts := _parts(record)):
        drawn["loss_parts"] = curves.learning_curve(say("Parts of the training loss"), parts)
    if (curve := record.curve("lr")) is not None:
        drawn["learning_rate"] = curves.learning_rate(*curve, peak_rate(record))
    if monitor is None:
        return drawn | _monitors(record)
    if (curve := record.curve(f"val_{monitor}")) is not None:
        title, form = in_words(record, f"val_{monitor}"), headline(record, monitor).form
        drawn[monitor] = curves.learning_curve(title, {say("validation"): curve}, mode, form)
    return drawn


def samples(record: RunReader) -> list[Tile]:
    """The first images of the first training batch, augmented as the run did, with their targets."""
    from vitrail.data import open_data

    data = open_data(record.data)
    batch = next(iter(data.train_loader(seed=record.config["seed"]).batches(epoch=0)))
    if record.data.views:
        return _views(batch, record)
    images = denormalised(batch["images"][:NUM_SAMPLES], record.data.preprocess.resolve())
    if "targets" not in batch:
        return [Tile(image, "") for image in images]
    kind, targets, names = data.target_kind, batch["targets"], data.classes
    return [
        Tile(kind.draw(image, targets[i], names), *kind.caption(targets[i], names)) for i, image in enumerate(images)
    ]


def _parts(record: RunReader) -> dict[str, curves.Curve]:
    """The parts of the training loss, such as those of labels and of a teacher."""
    named = {name: record.curve(f"train_{name}") for name in _logged(record) if name.endswith("_loss")}
    return {name.removesuffix("_loss"): curve for name, curve in named.items() if curve is not None}


def _monitors(record: RunReader) -> dict[str, Figure]:
    """All other numbers logged in training and validation."""
    drawn = {}
    for name in _logged(record):
        both = {say(label): record.curve(f"{split}_{name}") for split, label in SPLITS}
        if name != "loss" and (measured := {label: curve for label, curve in both.items() if curve is not None}):
            title, form = label_of(record, name).capitalize(), headline(record, name).form
            drawn[name] = curves.learning_curve(title, measured, form=form)
    return drawn


def _logged(record: RunReader) -> list[str]:
    """The names of what was logged in training or validation, in order."""
    columns = (column for column in record.history if column.startswith(("train_", "val_")))
    return list(dict.fromkeys(column.partition("_")[2] for column in columns))


def _views(batch: Batch, record: RunReader) -> list[Tile]:
    """The views of the first images, a strip per image."""
    views = [denormalised(view[:NUM_STRIPS], record.data.preprocess.resolve()) for view in views_of(batch)]
    return [Tile(beside(list(strip), STRIP_HEIGHT), "") for strip in zip(*views, strict=True)]


def monitored(record: RunReader) -> tuple[str | None, Literal["max", "min"]]:
    """The metric that selects the best weights, if any, and whether ``max`` or ``min`` is best."""
    chosen = record.config.get("monitor")
    if chosen is None or chosen == record.task_class.monitor:
        return record.task_class.monitor, record.task_class.monitor_mode
    return chosen, mode_of(chosen)


def label_of(record: RunReader, metric: str) -> str:
    """A metric's label."""
    return say(headline(record, metric).label)


def headline(record: RunReader, metric: str) -> Headline:
    """How a metric of the run's task is written; one without a label by its name."""
    family = family_of(record)
    known = {} if family is None else family.headlines
    return known.get(metric, Headline(metric.replace("_", " "), "{:.4f}"))


def family_of(record: RunReader) -> Family | None:
    """How the run's task is shown; None for a third party's without a family."""
    return load("representation") if record.pretrained else find(record.task_class)


def shown(record: RunReader, metrics: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Measured metrics as (label, value), those that have a label first, in its family's order."""
    family = family_of(record)
    ordered = dict.fromkeys([*(family.headlines if family else ()), *metrics])
    left_out = family.left_out(record.dataset.get("classes", ())) if family else ()
    lines = [(name, headline(record, name)) for name in ordered if name not in left_out]
    return [(say(line.label), line.show(metrics[name])) for name, line in lines if metrics.get(name) is not None]


def in_words(record: RunReader, column: str) -> str:
    """A column of metrics.csv as a heading."""
    if column == "lr":
        return say("Learning rate")
    split, _, metric = column.partition("_")
    heading = {"train": "Training: {metric}", "val": "Validation: {metric}", "test": "Test: {metric}"}.get(split)
    return say(column.replace("_", " ")) if heading is None else say(heading, metric=label_of(record, metric))


def peak_rate(record: RunReader) -> float:
    """The highest learning rate of all steps; of a run that did not record it, of the ends of epochs."""
    return float(record.summary.get("peak_lr") or np.nanmax(record.history["lr"]))
