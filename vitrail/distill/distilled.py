"""A task and its teacher as one trainable."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.batch import Batch
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig
from vitrail.distill.activations import record
from vitrail.distill.preprocess import TeacherPreprocess
from vitrail.distill.teacher import Teacher
from vitrail.errors import UserError
from vitrail.pooled import PooledModel
from vitrail.trainable import Losses, Trainable
from vitrail.wrapped import Wrapped


class Distilled(Wrapped):
    """A task whose loss compares it with labels and with a teacher. What is evaluated and released is the task.

    Parameters of the objective begin with ``distillation.``. The teacher is no submodule: it is neither trained, moved
    nor saved.

    Args:
        preprocess: of the student's images.

    Attributes:
        weight: the teacher's share of the loss.

    Raises:
        UserError: a task without pool and head, an unknown kind or option, or a teacher of other classes, channels or
            outputs than the kind needs.
    """

    HELPERS = "distillation"

    def __init__(self, task: Trainable, teacher: Teacher, config: DistillConfig, preprocess: PreprocessConfig) -> None:
        if not isinstance(task, PooledModel):
            raise UserError(f"{task.name!r} cannot learn from a teacher; leave distill out, or choose another --task")
        kind = registry.load("distill.kinds", config.kind)
        options = from_dict(kind.Options, config.options, where="distill.options")
        prepared = TeacherPreprocess(preprocess, teacher.preprocess, teacher.device)
        super().__init__(task, nn.ModuleDict({"objective": kind.Objective(task, teacher, options)}))
        self.preprocess = prepared
        self.separate_heads: bool = kind.Objective.separate_heads
        self.weight: float = kind.WEIGHT if config.weight is None else config.weight

    def loss(self, batch: Batch) -> Losses:
        """The weighted sum, with ``label_loss``, ``distillation_loss`` and the parts of the former, from one forward
        pass of the student."""
        assert isinstance(self.task, PooledModel)
        with record(self.task, separate_heads=self.separate_heads) as activations:
            own = self.task.loss(batch)
        distance: Tensor = self.helpers["objective"](activations, self.preprocess(batch["images"]))
        loss = (1 - self.weight) * own["loss"] + self.weight * distance
        return {**own, "loss": loss, "label_loss": own["loss"], "distillation_loss": distance}
