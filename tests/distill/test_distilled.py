"""A task with a teacher as one module: names, copies, and what is released."""

from __future__ import annotations

import copy

import torch
from test_losses import CLASSES, SEEN, cnn, student

from vitrail.distill import DistillConfig, Teacher
from vitrail.distill.distilled import Distilled
from vitrail.tasks.classification import Task

OBJECTIVE = ["distillation.objective.projector.weight", "distillation.objective.projector.bias"]


def distilled(task: Task) -> Distilled:
    model = cnn()
    teacher = Teacher(model, SEEN, CLASSES, features=model.body)
    return Distilled(task, teacher, DistillConfig(teacher="a model", kind="features"), SEEN)


def test_the_names_are_those_of_state_folders() -> None:
    task = student()
    model = distilled(task)
    assert list(model.state_dict()) == [*task.state_dict(), *OBJECTIVE]
    assert [name for name, _ in model.named_parameters()] == [
        *(name for name, _ in task.named_parameters()),
        *OBJECTIVE,
    ]
    assert model.encoders() == task.encoders()
    assert all(f"{path}.norm.weight" in model.state_dict() for path in model.encoders())


def test_what_is_released_is_the_task() -> None:
    task = student()
    model = distilled(task)
    assert model.released() is task
    assert (model.name, model.monitor, model.monitor_mode, model.takes) == ("classification", "top1", "max", ("class",))
    assert model.metrics().names == CLASSES


def test_a_copy_has_weights_of_its_own_and_the_same_teacher() -> None:
    model = distilled(student())
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert not any(value.any() for value in twin.task.parameters())
    twin.load_state_dict(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in twin.state_dict().items())
    assert twin.distillation["objective"]._teacher is model.distillation["objective"]._teacher
