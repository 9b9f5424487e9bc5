"""Which metric of the validation split selects the best weights."""

from __future__ import annotations

from vitrail.console import note
from vitrail.errors import UserError, did_you_mean
from vitrail.metrics import mode_of
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
    note(f"monitor: {metric} ({'larger' if mode == 'max' else 'smaller'} is better)")
