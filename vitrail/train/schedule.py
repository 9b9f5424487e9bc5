"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vitrail.config import config
from vitrail.ops.schedules import cosine


@config
class ScheduleConfig:
    """The learning rate rises linearly during the warmup, then falls to ``final`` of its peak."""

    name: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None  # None: 5 % of the training
    final: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the peak at the end


def factor(schedule: ScheduleConfig, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """What to multiply the peak learning rate by at ``step`` of ``num_steps``, counted from 0."""
    epochs = schedule.warmup_epochs
    warmup = round(0.05 * num_steps if epochs is None else epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "linear":
        return schedule.final + (1 - schedule.final) * (1 - progress)
    return cosine(1.0, schedule.final, progress)
