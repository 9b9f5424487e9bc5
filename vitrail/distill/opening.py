"""Finding the teacher that a config names."""

from __future__ import annotations

from pathlib import Path

import torch

from vitrail import engines, registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig, program
from vitrail.distill.teacher import Teacher
from vitrail.engines.runtimes import pt2
from vitrail.errors import UserError
from vitrail.predictor import load


def open_teacher(config: DistillConfig, student: PreprocessConfig, device: torch.device) -> Teacher:
    """The teacher, on the device.

    Args:
        student: the preprocessing of the student's images, which somebody's program that says none is taken to share.

    Raises:
        UserError: nothing there, a file that is damaged or hostile, or a function that returns no :class:`Teacher`.
    """
    with torch.random.fork_rng(devices=[]):  # somebody's model draws first values, and the student's shall not change
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
