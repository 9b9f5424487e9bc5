"""A task and its teacher as one trainable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
from vitrail.metrics import Metrics, Rows
from vitrail.nn.encoder import Encoder
from vitrail.pooled import PooledModel
from vitrail.trainable import Forward, Losses, Trainable


class Distilled(Trainable):
    """A task whose loss compares it with labels and with a teacher. What is evaluated and released is the task.

    Parameters and the state dict have the task's own names; those of the objective begin with ``distillation.``. The
    teacher is no submodule: it is neither trained, moved nor saved.

    Args:
        preprocess: of the student's images.

    Attributes:
        weight: the teacher's share of the loss.

    Raises:
        UserError: a task without pool and head, an unknown kind or option, or a teacher of other classes, channels or
            outputs than the kind needs.
    """

    def __init__(self, task: Trainable, teacher: Teacher, config: DistillConfig, preprocess: PreprocessConfig) -> None:
        super().__init__()
        if not isinstance(task, PooledModel):
            raise UserError(f"{task.name!r} cannot learn from a teacher; leave distill out, or choose another --task")
        kind = registry.load("distill.kinds", config.kind)
        self.preprocess = TeacherPreprocess(preprocess, teacher.preprocess, teacher.device)
        options = from_dict(kind.Options, config.options, where="distill.options")
        self.task = task
        self.distillation = nn.ModuleDict({"objective": kind.Objective(task, teacher, options)})
        self.separate_heads: bool = kind.Objective.separate_heads
        self.weight: float = kind.WEIGHT if config.weight is None else config.weight
        # Class attributes of other trainables; those of a wrapper are its task's.
        vars(self).update(monitor=task.monitor, monitor_mode=task.monitor_mode, takes=task.takes)

    @property
    def name(self) -> str:
        """The task's."""
        return self.task.name

    def released(self) -> Trainable:
        """The task alone."""
        return self.task.released()

    def encoders(self) -> Mapping[str, Encoder]:
        """The task's."""
        return self.task.encoders()

    def loss(self, batch: Batch) -> Losses:
        """The weighted sum, with ``label_loss``, ``distillation_loss`` and the parts of the former, from one forward
        pass of the student."""
        with record(self.task, separate_heads=self.separate_heads) as activations:
            own = self.task.loss(batch)
        distance: Tensor = self.distillation["objective"](activations, self.preprocess(batch["images"]))
        loss = (1 - self.weight) * own["loss"] + self.weight * distance
        return {**own, "loss": loss, "label_loss": own["loss"], "distillation_loss": distance}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The task's; what is compared with the teacher is a mean over images."""
        return self.task.counts(batch)

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """The task's."""
        return self.task.evaluate_batch(batch, forward)

    def metrics(self) -> Metrics:
        """The task's."""
        return self.task.metrics()

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """The task's."""
        return self.task.diagnose(means)

    def before_step(self, step: int, num_steps: int) -> None:
        """The task's."""
        self.task.before_step(step, num_steps)

    def after_step(self, step: int, num_steps: int) -> None:
        """The task's."""
        self.task.after_step(step, num_steps)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """As of every module, under the names that the class describes."""
        named = super().named_parameters(prefix, recurse, remove_duplicate)
        return ((name.removeprefix("task."), value) for name, value in named)

    def state_dict(self, **options: Any) -> dict[str, Tensor]:  # type: ignore[override]  # it is never a submodule
        """As of every module, under the names that the class describes."""
        return {name.removeprefix("task."): value for name, value in super().state_dict(**options).items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """As of every module, under the names that the class describes."""
        named = {n if n.startswith("distillation.") else f"task.{n}": value for n, value in state_dict.items()}
        return super().load_state_dict(named, strict, assign)
