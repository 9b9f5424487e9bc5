"""Loading the teacher that a config names."""

from __future__ import annotations

from pathlib import Path

import torch

from vitrail import engines, registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig, program
from vitrail.distill.distilled import Distilled
from vitrail.distill.teacher import Teacher
from vitrail.engines.runtimes import pt2
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.trainable import Trainable


def with_teacher(
    task: Trainable, config: DistillConfig | None, preprocess: PreprocessConfig, device: torch.device
) -> Trainable:
    """The task with the teacher of the config; without a config, the task itself.

    Args:
        preprocess: of the student's images.

    Raises:
        UserError: as :func:`load_teacher` and :class:`Distilled`.
    """
    if config is None:
        return task
    return Distilled(task, load_teacher(config, preprocess, device), config, preprocess)


def load_teacher(config: DistillConfig, student: PreprocessConfig, device: torch.device) -> Teacher:
    """The teacher, on the device.

    Args:
        student: the preprocessing of the student's images; a program whose own is not known is assumed to share it.

    Raises:
        UserError: nothing there, a file that is damaged or hostile, or a function that returns no :class:`Teacher`.
    """
    with torch.random.fork_rng(
        devices=[]
    ):  # a third party's model draws initial weights; the student's must not change
        if config.function is not None:
            return _returned(*config.function).to(device)
        path = Path(config.teacher)
        if path.suffix == program.SUFFIX and not pt2.is_ours(path):
            return program.read(path, student, device, allow_pickle=config.allow_pickle)
        at = "cpu" if engines.of_file(path) else device  # where a graph runs
        predictor = load(config.teacher, device=at, allow_pickle=config.allow_pickle)
        return Teacher.of(predictor, config.teacher).to(device)


def _returned(module: str, function: str) -> Teacher:
    make = getattr(registry.load("distill", module), function, None)
    teacher = make() if callable(make) else None
    if not isinstance(teacher, Teacher):
        raise UserError(f"{module}:{function} returns no vitrail.distill.Teacher; write such a function")
    return teacher
