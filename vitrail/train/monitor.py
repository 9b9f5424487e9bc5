"""Which metric of the validation split selects the best weights, and an epoch's numbers in words."""

from __future__ import annotations

from vitrail.console import note
from vitrail.errors import UserError, did_you_mean
from vitrail.metrics import mode_of
from vitrail.train.loggers import Row
from vitrail.trainable import Trainable


def watch(task: Trainable, metric: str | None) -> None:
    """Let ``metric`` select the best weights of a task, where one is given, in place of the task's own.

    Raises:
        UserError: its metrics have no such scalar.
    """
    if metric is None or metric == task.monitor:
        return
    known = task.metrics().scalars or (() if task.monitor is None else (task.monitor,))
    if metric not in known:
        raise UserError(f"{task.name!r} has no metric {metric!r} to monitor; {did_you_mean(metric, known)}")
    mode = mode_of(metric)
    vars(task).update(monitor=metric, monitor_mode=mode)  # class attributes of the task, now the instance's own
    label = task.metrics().headline(metric).label
    note(f"monitor: {label} ({'larger' if mode == 'max' else 'smaller'} is better)")


def in_words(row: Row, task: Trainable) -> str:
    """The numbers of an epoch that a terminal shows: losses, the metric that selects the best weights, rate, speed."""
    validation = f" (validation {row['val_loss']:.4g})" if "val_loss" in row else ""
    parts = [f"loss {row['train_loss']:.4g}{validation}"]
    if task.monitor not in (None, "loss") and (value := row.get(f"val_{task.monitor}")) is not None:
        headline = task.metrics().headline(str(task.monitor))
        parts.append(f"{headline.label} {headline.show(value)}")
    if "images_per_second" in row:  # not in an epoch whose steps were all taken before it was resumed
        parts += [f"rate {row['lr']:.4g}", f"{row['images_per_second']:.4g} images/s"]
    return "  ".join(parts)
