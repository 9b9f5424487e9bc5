"""The teacher's features instead of its logits (Wei et al. 2022, "Contrastive Learning Rivals Masked Image Modeling in
Fine-tuning via Feature Distillation", section 3): no classes are needed, and width and grid may differ.

Shapes: B batch, N patches of the student, D its width, T the teacher's width, (h, w) the student's grid.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.config import config
from vitrail.distill import Activations, Teacher
from vitrail.distill import Objective as Base
from vitrail.nn.init import initialise
from vitrail.nn.pooling import pooled_dim
from vitrail.pooled import PooledModel
from vitrail.trainable import image_encoder

WEIGHT = 0.5
BETA = 2.0  # the paper's: the distance is squared below it, absolute above


@config
class Options:
    """Args:
    of: compare each patch (``patches``), or one vector per image (``pooled``).
    """

    of: Literal["patches", "pooled"] = "patches"


class Objective(Base):
    """Smooth L1 distance of the student's features, linearly projected, from the teacher's, each normalised by its own
    mean and deviation, in float32. A feature map of another grid is resized to the student's.

    Raises:
        UserError: the teacher gives no feature map, and patches are to be compared.
    """

    def __init__(self, task: PooledModel, teacher: Teacher, options: Options) -> None:
        super().__init__()
        vit = image_encoder(task)
        dim = vit.config.dim
        self.grid = vit.embed.grid(vit.config.image_size)
        self.pooled = options.of == "pooled"
        if self.pooled:
            width = teacher.width(teacher.vector, 2, "give one that has a vector an image")
            dim = pooled_dim(task.config.pool or "mean", dim, len(task.config.pool_tokens))
        else:
            width = teacher.width(teacher.map, 4, "with no map of features, set distill.options.of=pooled")
        self.projector = nn.Linear(dim, width)
        initialise(self.projector)
        self.projector.to(next(task.parameters()).device)
        self._teacher = teacher

    def forward(self, student: Activations, images: Tensor) -> Tensor:
        own = self.projector(student.pooled if self.pooled else student.patches)
        others = self._teacher.vector(images) if self.pooled else self._patches(images)
        return F.smooth_l1_loss(own.float(), F.layer_norm(others, others.shape[-1:]), beta=BETA)

    def _patches(self, images: Tensor) -> Tensor:
        """The teacher's feature map on the student's grid, B N T."""
        found = self._teacher.map(images)
        if found.shape[-2:] != self.grid:
            found = F.interpolate(found, self.grid, mode="bilinear", antialias=True)
        return found.flatten(2).mT
