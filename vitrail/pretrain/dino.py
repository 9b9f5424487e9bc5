"""DINO (Caron et al. 2021): from any crop of an image, say what a slowly moving copy says of another, larger one.

B batch, K outputs.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.nn.step_mean import StepMean
from vitrail.ops.distillation import cross_entropy_of_pairs
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.distillation import DistillationConfig, SelfDistillation
from vitrail.self_supervision.views import pooled
from vitrail.trainable import Losses


@config
class Config(DistillationConfig):
    """Args:
    centre_momentum: of the moving mean of the teacher's outputs.
    """

    centre_momentum: Annotated[float, Field(ge=0, le=1)] = 0.9


class Centre(nn.Module):
    """The moving mean of what passes through, which is taken off (equation 4): no output can win for all images.

    It moves once a step, however many pieces a batch comes in.
    """

    mean: Tensor

    def __init__(self, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self._step = StepMean()

    def forward(self, x: Tensor) -> Tensor:
        """B K → B K."""
        self._step.add(x.detach())
        return x - self.mean

    def move(self) -> None:
        """Toward the mean of all since the last time; what is not finite is left out."""
        self._step.move(self.mean, 1 - self.momentum)


class Task(SelfDistillation, Pretraining):
    """Student and teacher, and the centre of the teacher's outputs."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.centre = Centre(config.num_prototypes, config.centre_momentum)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy of the student's outputs for all crops under the teacher's for global ones; monitors.

        Raises:
            UserError: less than two global crops, or crops that patches do not cover.
        """
        (whole, parts), num_images = self.crops(batch), len(batch["keys"])
        with torch.no_grad():
            features = pooled(self.teacher_vit(whole))
            targets = (self.centre(self.teacher["head"](features)) / self.temperature).softmax(dim=-1)
        logits = self.head(torch.cat([pooled(self.vit(crops)) for crops in (whole, *parts)]))
        logits = logits / self.config.student_temperature
        loss = cross_entropy_of_pairs(*(each.unflatten(0, (-1, num_images)) for each in (targets, logits)))
        return {"loss": loss, **self.monitors(features, targets)}

    def after_step(self, step: int, num_steps: int) -> None:
        """Teacher and centre move."""
        super().after_step(step, num_steps)
        self.centre.move()
