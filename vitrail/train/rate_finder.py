"""The learning-rate range test (Smith 2017, section 3.3): the loss while the rate rises, before the actual training.

::

    curve = find_rate(run)
    curve.suggested
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.console import Progress
from vitrail.data.batch import Batch
from vitrail.data.loading.loader import Loader
from vitrail.errors import UserError
from vitrail.train import optimizer
from vitrail.train.assemble import TrainContext, assemble
from vitrail.train.distributed import join
from vitrail.train.folder import RunFolder
from vitrail.train.run import Run
from vitrail.train.step import TrainStep

LOWEST, HIGHEST, NUM_STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9  # of the exponential mean of losses
DIVERGED = 3.0  # times the lowest smoothed loss's distance from zero, at which the test ends
SHARE = 0.1  # of the rate with the lowest loss: there it is about to diverge


@dataclass(frozen=True)
class RateCurve:
    """The result of :func:`find_rate`, an entry per step.

    Attributes:
        smoothed: the losses' exponential mean, without its bias towards the beginning.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return self.rates[min(range(len(self.rates)), key=lambda step: self.smoothed[step])]

    @property
    def suggested(self) -> float:
        """A peak rate for the training: a tenth of :attr:`lowest`, two digits."""
        return float(f"{SHARE * self.lowest:.1e}")

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON types."""
        return {"suggested": self.suggested, "lowest": self.lowest, "rates": self.rates, "losses": self.losses}


def find_rate(
    run: Run, *, num_steps: int = NUM_STEPS, lowest: float = LOWEST, highest: float = HIGHEST, progress: bool = True
) -> RateCurve:
    """Train ``run`` from its start while the peak learning rate rises exponentially, until the loss diverges. Nothing
    is kept of this training. Groups with a share of the peak rate (``layer_decay``) keep it.

    Raises:
        UserError: as :func:`vitrail.fit`, rates that do not rise, fewer than 10 steps, or a loss that diverges before.
    """
    if not 0 < lowest < highest or num_steps < 10:
        raise UserError(
            f"rates rise from {lowest:g} to {highest:g} in {num_steps} steps; take 10 steps or more upwards"
        )
    with tempfile.TemporaryDirectory(prefix="vitrail-") as temporary:
        place = RunFolder(Path(temporary) / "run")
        try:
            with join(run.device, run.timeout) as world, closing(assemble(run, place, world, extend=False)) as context:
                return _swept(context, num_steps, lowest, highest, progress=progress)
        finally:
            place.release()


class _Rising(TrainStep):
    """Steps whose rate rises from the lowest to the highest."""

    def __init__(self, context: TrainContext, num_steps: int, lowest: float, highest: float) -> None:
        super().__init__(context)
        self.num_steps, self.lowest, self.highest = num_steps, lowest, highest
        self.peak = self.run.optimizer.peak_lr(self.run.data.loader.batch_size)

    def at(self, step: int) -> float:
        """The absolute rate of a step."""
        return self.lowest * (self.highest / self.lowest) ** (step / (self.num_steps - 1))

    def rate(self, step: int) -> float:
        return self.at(step) / self.peak


def _swept(context: TrainContext, num_steps: int, lowest: float, highest: float, *, progress: bool) -> RateCurve:
    step = _Rising(context, num_steps, lowest, highest)
    optimizer.train_mode(context.model)
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    with Progress("learning rate", num_steps, enabled=progress) as bar:
        for number, batch in enumerate(itertools.islice(_endless(context.loader), num_steps)):
            loss = step(batch, stop=False, save=False).values()[1]["loss"]
            if not math.isfinite(loss):
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            rates.append(step.at(number))
            losses.append(loss)
            smoothed.append(mean / (1 - SMOOTHING ** (number + 1)))
            best = min(smoothed)
            bar.advance(1, loss=smoothed[-1], rate=rates[-1])
            if number >= 10 and smoothed[-1] > best + (DIVERGED - 1) * abs(best):
                break
    if len(rates) < 10:
        raise UserError(f"the loss is not finite after {len(rates)} steps at a rate of {lowest:g}; begin lower")
    return RateCurve(tuple(rates), tuple(losses), tuple(smoothed))


def _endless(loader: Loader) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from loader.batches(epoch)
