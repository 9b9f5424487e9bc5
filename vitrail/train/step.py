"""One optimizer step, and its outputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.data import keyed_random
from vitrail.data.batch import Batch, chunks, to_device
from vitrail.train import optimizer, precision
from vitrail.train.assemble import TrainContext
from vitrail.train.schedule import factor


class StepOutput(NamedTuple):
    """The outputs of a step. ``values()`` waits until they are on the host."""

    step_in_epoch: int
    losses: tuple[str, ...]
    numbers: Tensor  # gradient norm, losses, whether any rank requests a stop, whether any requests a save
    ready: torch.cuda.Event | None

    def values(self) -> tuple[float, dict[str, float], bool, bool]:
        """Gradient norm, losses by name, stop, save; the same on every rank."""
        if self.ready is not None:
            self.ready.synchronize()
        norm, *losses, stop, save = self.numbers.tolist()
        return norm, dict(zip(self.losses, losses, strict=True)), stop > 0, save > 0


class TrainStep:
    """``train_step(batch)`` takes one optimizer step.

    All randomness comes from (seed, step, rank), and after an epoch's steps from (seed, epoch, rank), so there is no
    generator to restore.
    """

    def __init__(self, context: TrainContext) -> None:
        self.run, self.world, self.parallel = context.run, context.world, context.parallel
        self.model, self.state = context.model, context.state
        self.steps_per_epoch = len(context.loader)
        self.num_steps = self.run.epochs * self.steps_per_epoch

    def __call__(self, batch: Batch, *, stop: bool, save: bool) -> StepOutput:
        """Take a step. ``stop`` and ``save`` of any rank are in the output of all ranks."""
        at, state = self.state.loop, self.state
        self.seed("step", at.step)
        optimizer.set_rates(state.optimizer, self.run.optimizer, self.rate(at.step), at.step / self.num_steps)
        names, losses = self.gradients(batch)
        shared = self.world.mean(torch.cat((losses, losses.new_tensor([stop, save]))))
        self.model.before_step(at.step, self.num_steps)
        norm = precision.guarded_step(
            state.optimizer, state.scaler, shared[0], self.run.clip, clip_each=self.run.clip_each
        )
        self.model.after_step(at.step, self.num_steps)
        if state.ema is not None:
            state.ema.update_parameters(self.model)
        numbers = torch.cat((norm[None], shared)).to("cpu", non_blocking=True)
        ready = torch.cuda.current_stream().record_event() if norm.is_cuda else None
        at.step, at.step_in_epoch = at.step + 1, at.step_in_epoch + 1
        return StepOutput(at.step_in_epoch - 1, names, numbers, ready)

    def rate(self, step: int) -> float:
        """The learning rate of a step as a share of the peak."""
        return factor(self.run.schedule, step, self.num_steps, self.steps_per_epoch)

    def seed(self, what: str, number: int) -> None:
        """Set torch's generators to a function of the run's seed, what comes next, and this rank."""
        torch.manual_seed(keyed_random.key(self.run.seed, what, number, self.world.rank) >> 1)

    def gradients(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        """Backward through the batch in pieces; the losses' names and sums, the one to minimise first.

        Their mean over the ranks, as that of the gradients, is what one process finds in all ranks' images at once.
        """
        num_images, counts = self.counts(batch)
        total: dict[str, Tensor] = {}
        pieces = chunks(to_device(batch, self.world.device), self.run.accumulate)
        for piece in pieces:
            share = len(piece["keys"]) / num_images
            piece["divisors"] = {name: count * share for name, count in counts.items()}
            with self.parallel.gradient_sync(piece is pieces[-1]):
                with precision.autocast(self.run.precision, self.world.device):
                    losses = self.parallel(piece)
                loss = losses["loss"] * share
                (self.state.scaler.scale(loss) if self.state.scaler else loss).backward()
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + value.detach().float() * share
        names = ("loss", *(name for name in total if name != "loss"))
        return names, torch.stack([total[name] for name in names])

    def counts(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The number of images, and what else the loss divides by: means over the ranks, of at least 1 in all."""
        found = self.model.counts(batch)
        own = torch.stack([torch.tensor(len(batch["keys"])), *found.values()]).float()
        means = self.world.mean(own.to(self.world.device, non_blocking=True)).clamp(min=1 / self.world.size)
        return means[0], dict(zip(found, means[1:].unbind(), strict=True))
