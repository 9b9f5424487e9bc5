"""From a run to its data and its task, with ``auto`` resolved."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from vitrail import registry
from vitrail.build import REGISTRIES
from vitrail.console import note, warn
from vitrail.data import Data, open_data, targets
from vitrail.data.inspection.teaching import cannot_teach, too_many
from vitrail.errors import UserError
from vitrail.tasks import Task
from vitrail.train.init_weights import initialise_from
from vitrail.train.requirements import require_input_fits, require_views_fit
from vitrail.train.run import Run
from vitrail.trainable import Trainable


def open_run(run: Run) -> tuple[Run, Data]:
    """The run with its task where that was ``auto``, and its data.

    Raises:
        UserError: as ``open_source``, or no task learns from such data.
    """
    if run.task != "auto":
        source = registry.load_from(REGISTRIES, run.task, "Task", "Config").Task.source(run.data.source)
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
    data = open_data(run.data)
    if run.task == "auto":
        run = dataclasses.replace(run, task=task_for(data.kind))
        note(f"task: {run.task} (auto)")
    return run, data


def task_for(kind: str) -> str:
    """The name of the task that learns from labels of this kind.

    Raises:
        UserError: there is none.
    """
    tasks = {name: registry.load("tasks", name).Task.takes for name in registry.names("tasks")}
    for name in sorted(tasks, key=lambda name: tasks[name][:1] != (kind,)):  # prefer a task whose first kind it is
        if kind in tasks[name]:
            return name
    if targets.load(kind).labelled:
        raise UserError(f"no task of Vitrail learns from data of kind {kind!r}; name the module of one with --task")
    raise UserError("no task learns from images without labels; give labels, or learn without by `vitrail pretrain`")


def build_task(run: Run, data: Data, *, fresh: bool = True) -> Trainable:
    """The task or method for the data, on the CPU, initialised from ``run.seed`` and, if ``fresh``, from ``run.init``.

    Raises:
        UserError: no training data, labels that the task does not take, or weights that do not fit.
    """
    train = data.split("train")
    module: Any = registry.load_from(REGISTRIES, run.task, "Task", "Config")
    if train.kind not in module.Task.takes:
        raise UserError(
            f"the task {run.task!r} learns from {' or '.join(module.Task.takes)} labels and the data has "
            f"{train.kind}; choose another --task"
        )
    if issubclass(module.Task, Task) and (fault := cannot_teach(train)):
        raise UserError(f"{run.data.source.spec!r} cannot be learned from: {fault}")
    num_views = sum(view.count for view in run.data.views)
    if num_views < module.Task.num_views or (num_views and not module.Task.num_views):
        wanted = f"at least {module.Task.num_views} views" if module.Task.num_views else "one view"
        raise UserError(f"{run.task!r} learns from {wanted} of an image and data.views has {num_views}; see its recipe")
    if "class_weights" in run.task_options and "class_weights" not in module.Config.__dataclass_fields__:
        raise UserError(
            f"the task {run.task!r} has no class weights: leave balance out, which is for classes of images"
        )
    torch.manual_seed(run.seed)
    options = module.Task.derived_options(run.preprocess) | run.task_options
    task: Trainable = module.Task(module.Task.configure(run.model, train.classes, train.targets, options))
    capacity = task.capacity if isinstance(task, Task) else None
    if capacity is not None and (few := too_many(train, capacity)):
        warn(few)
    require_input_fits(run, task)
    require_views_fit(run, task)
    if fresh and run.init is not None:
        initialise_from(task, run.init, allow_pickle=run.allow_pickle, names=run.init_names)
    return task
