"""What the kinds that compare logits share: the teacher's, for the student's classes in their order."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vitrail.data.indexing.names import ClassFinder
from vitrail.distill import Objective, Teacher
from vitrail.errors import UserError, did_you_mean
from vitrail.pooled import PooledModel


class LogitObjective(Objective):
    """``teacher_logits(images)``: B K, of the student's classes; a teacher may have more.

    Raises:
        UserError: the student chooses no class, or the teacher lacks one of its classes.
    """

    separate_heads: ClassVar[bool] = True

    def __init__(self, task: PooledModel, teacher: Teacher) -> None:
        super().__init__()
        if "class" not in task.takes:
            raise UserError(f"{task.name!r} has no classes to compare with a teacher's; choose distill.kind=features")
        others, finder = teacher.classes, ClassFinder(teacher.classes)
        own = tuple(finder.find(name) for name in task.names)
        if not others:
            raise UserError(
                f"{teacher.name} does not name its classes; put their list into classes.json next to its file, or "
                "choose distill.kind=features, which needs none"
            )
        unclear = [name for name in own if others.count(name) != 1]
        if unclear:
            what = "has several classes" if unclear[0] in others else "lacks the class"
            hint = "" if unclear[0] in others else f" ({did_you_mean(unclear[0], others)})"
            raise UserError(
                f"{teacher.name} {what} {unclear[0]!r}{hint}; give a teacher of the student's classes, or choose "
                "distill.kind=features, which needs none"
            )
        width = teacher.width(teacher.logits, 2, "a classifier gives one number a class")
        if width != len(others):
            raise UserError(f"{teacher.name} gives {width} outputs and names {len(others)} classes; correct the names")
        self._teacher = teacher
        self._order = torch.tensor([others.index(name) for name in own], device=teacher.device)

    def teacher_logits(self, images: Tensor) -> Tensor:
        """B C H W → B K, without gradient."""
        return self._teacher.logits(images)[:, self._order]
