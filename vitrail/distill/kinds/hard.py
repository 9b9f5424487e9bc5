"""The teacher's decision as a second label (Touvron et al. 2021, DeiT, equation 3)."""

from __future__ import annotations

from torch import Tensor

from vitrail.config import config
from vitrail.distill import Seen, Teacher
from vitrail.distill.kinds._answers import Answers
from vitrail.ops.losses import cross_entropy
from vitrail.tasks import Task

WEIGHT = 0.5


@config
class Options:
    """None: a decision has no temperature, and the paper smooths true labels alone."""


class Objective(Answers):
    """Cross-entropy of the student's logits and the class that the teacher finds most probable."""

    def __init__(self, task: Task, teacher: Teacher, options: Options) -> None:
        super().__init__(task, teacher)

    def forward(self, seen: Seen, images: Tensor) -> Tensor:
        return cross_entropy(seen.answer, self.answers(images).argmax(dim=1))
