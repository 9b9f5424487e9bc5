"""The teacher's probabilities, softened (Hinton et al. 2015; Touvron et al. 2021, DeiT, equation 2)."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.distill import Activations, Teacher
from vitrail.distill.logits import LogitObjective
from vitrail.pooled import PooledModel

WEIGHT = 0.1  # DeiT's λ


@config
class Options:
    """Args:
    temperature: τ, which divides the logits of both; a higher one gives unlikely classes more weight. 3 is DeiT's.
    """

    temperature: Annotated[float, Field(gt=0)] = 3.0


class Objective(LogitObjective):
    """τ² · KL(softmax(teacher / τ) ‖ softmax(student / τ)), mean over the batch, in float32.

    τ² keeps the gradient's size when τ changes. (DeiT's code divides by the number of classes as well; its paper, as
    Hinton's, does not.)
    """

    def __init__(self, task: PooledModel, teacher: Teacher, options: Options) -> None:
        super().__init__(task, teacher)
        self.temperature = options.temperature

    def forward(self, student: Activations, images: Tensor) -> Tensor:
        both = (student.logits, self.teacher_logits(images))
        own, others = ((logits.float() / self.temperature).log_softmax(dim=1) for logits in both)
        return F.kl_div(own, others, reduction="batchmean", log_target=True) * self.temperature**2
