"""The teacher's most probable class as a second label (Touvron et al. 2021, DeiT, equation 3)."""

from __future__ import annotations

from torch import Tensor

from vitrail.config import config
from vitrail.distill import Activations, Teacher
from vitrail.distill.logits import LogitObjective
from vitrail.ops.losses import cross_entropy
from vitrail.pooled import PooledModel

WEIGHT = 0.5


@config
class Options:
    """None: hard labels have no temperature, and the paper smooths true labels only."""


class Objective(LogitObjective):
    """Cross-entropy of the student's logits and the teacher's most probable class."""

    def __init__(self, task: PooledModel, teacher: Teacher, options: Options) -> None:
        super().__init__(task, teacher)

    def forward(self, student: Activations, images: Tensor) -> Tensor:
        return cross_entropy(student.logits, self.teacher_logits(images).argmax(dim=1))
