"""Learning from a trained model as well as from labels (knowledge distillation), put into a task from outside.

The student keeps its own loss, and gets another from the teacher::

    loss = (1 - weight) · label_loss + weight · distillation_loss

``kinds/`` holds one kind of the second a file:

- ``Options``: a config;
- ``WEIGHT``: the teacher's share by default;
- ``Objective(task, teacher, options)``: a module; ``forward(seen, images) -> distillation_loss``, for images as the
  teacher takes them. Its parameters learn with the student and are thrown away afterwards;
- ``Objective.APART``: do class and distillation token answer apart while the student learns, the first to the labels
  and the second to the teacher (Touvron et al. 2021, DeiT, section 4)?
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MethodType
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from vitrail import registry
from vitrail.config import config, from_dict
from vitrail.data.batch import Batch
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill.seen import Seen, watching
from vitrail.distill.sight import Sight
from vitrail.distill.teacher import Teacher
from vitrail.errors import UserError
from vitrail.pooled import PooledModel
from vitrail.tasks import Task

__all__ = ["DistillConfig", "Seen", "Teacher", "apply", "released"]

PART = "distillation"  # of a task, while it learns from a teacher


@config
class DistillConfig:
    """From whom to learn, and how.

    Args:
        teacher: a run folder, a weights file, another library's folder, ``hf://owner/name``, an exported or quantised
            file, anybody's program of torch.export (``.pt2``), or ``my_pkg.my_module:function``, which returns a
            :class:`Teacher`.
        kind: a file of ``vitrail/distill/kinds``, or a third party's module.
        weight: the teacher's share of the loss; default: the kind's.
        options: fields of the kind's ``Options``.
        allow_pickle: open a teacher's file that can run code. A run folder cannot allow it: who resumes says it again.
    """

    teacher: str
    kind: str = "hard"
    weight: Annotated[float, Field(ge=0, le=1)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    allow_pickle: bool = False

    @property
    def function(self) -> tuple[str, str] | None:
        """The module and the function that return the teacher, where it is named so."""
        found = re.fullmatch(r"(\w+(?:\.\w+)+):(\w+)", self.teacher)
        return (found[1], found[2]) if found else None

    @property
    def modules(self) -> set[str]:
        """The registry entries that it names; dotted ones are third parties' modules."""
        return {self.kind, self.function[0]} if self.function else {self.kind}


class Distillation(nn.Module):
    """The part of a task that compares it with a teacher. The teacher is no part of it: it is neither saved nor moved.

    Attributes:
        weight: the teacher's share of the loss.
        apart: see the kinds' ``APART``.
    """

    def __init__(self, objective: Any, sight: Sight, weight: float) -> None:
        super().__init__()
        self.objective, self.sight, self.weight = objective, sight, weight
        self.apart: bool = objective.APART

    def forward(self, seen: Seen, images: Tensor) -> Tensor:
        """The distillation loss of what the student made of the images, B C H W."""
        distance: Tensor = self.objective(seen, self.sight(images))
        return distance


def apply(task: Task, teacher: Teacher, config: DistillConfig, preprocess: PreprocessConfig) -> None:
    """Make ``task.loss`` learn from the teacher too, in place, on the teacher's device.

    Args:
        preprocess: of the student's images.

    Raises:
        UserError: a task without pool and head, an unknown kind or option, or a teacher of other classes, channels or
            outputs than the kind needs.
    """
    if not isinstance(task, PooledModel):
        raise UserError(f"{task.name!r} cannot learn from a teacher; leave distill out, or choose another --task")
    kind = registry.load("distill.kinds", config.kind)
    sight = Sight(preprocess, teacher.preprocess, teacher.device)
    objective = kind.Objective(task, teacher, from_dict(kind.Options, config.options, where="distill.options"))
    weight = kind.WEIGHT if config.weight is None else config.weight
    task.add_module(PART, Distillation(objective, sight, weight))
    task.loss = MethodType(_loss, task)  # type: ignore[method-assign]


def released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A task's tensors without those that only learning from the teacher needed."""
    return {name: value for name, value in state.items() if not name.startswith(f"{PART}.")}


def _loss(task: Any, batch: Batch) -> dict[str, Tensor]:
    """The task's own loss and the teacher's, from one pass of the student."""
    part: Distillation = task.distillation
    with watching(task, apart=part.apart) as seen:
        own = type(task).loss(task, batch)
    distance = part(seen, batch["images"])
    loss = (1 - part.weight) * own["loss"] + part.weight * distance
    return {**own, "loss": loss, "label_loss": own["loss"], "distillation_loss": distance}
