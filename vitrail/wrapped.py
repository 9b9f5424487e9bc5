"""A task with what helps it to learn: a teacher, a discriminator, a loss of another model's features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from vitrail.data.batch import Batch
from vitrail.metrics import Metrics, Rows
from vitrail.nn.encoder import Encoder
from vitrail.trainable import Forward, Trainable


class Wrapped(Trainable):
    """A trainable in another one, whose loss has more parts. What is evaluated and released is the inner one.

    Parameters and the state dict have the task's own names; those of the module ``HELPERS`` begin with its name, learn
    with the task, are saved with its state, and are not released.
    """

    HELPERS: ClassVar[str]

    def __init__(self, task: Trainable, helpers: nn.ModuleDict) -> None:
        super().__init__()
        self.task = task
        self.add_module(self.HELPERS, helpers)
        # Class attributes of other trainables; those of a wrapper are its task's.
        vars(self).update(monitor=task.monitor, monitor_mode=task.monitor_mode, takes=task.takes)

    @property
    def helpers(self) -> nn.ModuleDict:
        """What learns with the task and is not released."""
        found = self.get_submodule(self.HELPERS)
        assert isinstance(found, nn.ModuleDict)
        return found

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

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The task's; what is added is a mean over images."""
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

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:  # type: ignore[override]
        """As of every module, under the names that the class describes; it is never a submodule itself."""
        found = super().state_dict(prefix=prefix, keep_vars=keep_vars)
        return {name.removeprefix("task."): value for name, value in found.items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> object:
        """As of every module, under the names that the class describes."""
        own = f"{self.HELPERS}."
        named = {n if n.startswith(own) else f"task.{n}": value for n, value in state_dict.items()}
        return super().load_state_dict(named, strict, assign)
