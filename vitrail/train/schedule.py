"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vitrail.config import config
from vitrail.ops.schedules import cosine

LONGEST_WARMUP = 0.5  # share of the training
Share = Annotated[float, Field(ge=0, le=1)]


@config
class ScheduleConfig:
    """The learning rate rises linearly during the warmup, then falls to ``final`` of its peak.

    Args:
        warmup: share of the training, so that a shorter or longer one has a shorter or longer warmup.
        warmup_epochs: in place of the share; of these, what is more than half of the training is left out.
        drops: of ``step``: shares of the training after each of which the rate is a tenth.
    """

    name: Literal["cosine", "linear", "constant", "step"] = "cosine"
    warmup: Annotated[float, Field(ge=0, le=LONGEST_WARMUP)] = 0.05
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    final: Share = 0.0  # of cosine and linear: share of the peak at the end
    drops: tuple[Share, ...] = ()

    def shortened(self, num_epochs: int) -> str | None:
        """What to tell the user if a training of so many epochs is too short for ``warmup_epochs``."""
        longest = LONGEST_WARMUP * num_epochs
        if self.warmup_epochs is None or self.warmup_epochs <= longest:
            return None
        return (
            f"schedule.warmup_epochs={self.warmup_epochs:g} is more than half of the {num_epochs} epochs, so that the "
            f"learning rate would hardly reach its peak: the warmup takes {longest:g}; set schedule.warmup_epochs lower"
        )


def factor(schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """What to multiply the peak learning rate by at ``step`` of ``num_steps``, counted from 0."""
    epochs = schedule.warmup_epochs
    wanted = schedule.warmup * num_steps if epochs is None else epochs * steps_per_epoch
    warmup = round(min(wanted, LONGEST_WARMUP * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "step":
        return 0.1 ** sum(step >= drop * num_steps for drop in schedule.drops)
    if schedule.name == "linear":
        return schedule.final + (1 - schedule.final) * (1 - progress)
    return cosine(1.0, schedule.final, progress)
