"""The one training loop.

On a GPU what a step found out reaches the host while the next step already runs, so faults, signals and saves are
heeded one step later there, and at once on a CPU. A step that is not finite changes no weights either way.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import cast

from vitrail.console import Progress, duration, note
from vitrail.data.loading.loader import Loader, worker_failure
from vitrail.errors import UserError
from vitrail.evaluation import evaluate
from vitrail.train import faults, optimizer, outcome, state
from vitrail.train.assemble import Session, assemble
from vitrail.train.distributed import join, whole
from vitrail.train.folder import RunFolder
from vitrail.train.loggers import Row, open_loggers
from vitrail.train.outcome import Result
from vitrail.train.run import Run
from vitrail.train.signals import Asked, Signals
from vitrail.train.step import Reading, Stepper
from vitrail.trainable import Trainable


def fit(run: Run, folder: str | Path, *, extend: bool = False) -> Result:
    """Train, or continue what ``folder`` holds of this very run.

    Args:
        extend: resuming was asked for by name, and ``run.epochs`` may be more than before.

    Raises:
        RankLost: another process of the training is gone.
        UserError: a mistake in the run or its data, a folder that holds something else, a full disk, three steps in
            a row that are not finite, a dead loader process.
    """
    place = RunFolder(folder)
    try:
        with join(run.device, run.timeout) as world, Signals() as signals:
            with world.only_first_speaks():
                session = assemble(run, place, world, extend=extend)
            with closing(session):
                return Loop(session, signals).run_all()
    except RuntimeError as error:
        if (explained := worker_failure(error)) is None:
            raise
        raise explained from None
    finally:
        place.release()


class Loop:
    """One session of a training, from where it is to its end."""

    def __init__(self, session: Session, signals: Signals) -> None:
        self.session, self.signals = session, signals
        self.run, self.world, self.task = session.run, session.world, session.task
        self.loader, self.val, self.at = session.loader, session.val, session.training.position
        self.stepper = Stepper(session)
        self.readings: deque[Reading] = deque()
        self.lag = 1 if self.world.device.type == "cuda" else 0  # steps between a reading and its heeding
        self.stop = self.save_due = self.complained = False
        self.saved_at = time.monotonic()
        self.loggers = open_loggers(self.run.loggers, session.folder.path, self.at.epoch) if self.world.first else []
        if self.at.step:
            self.say(f"continuing {session.folder.path} at epoch {self.at.epoch + 1}, step {self.at.step}")

    def run_all(self) -> Result:
        """Epochs until all are done, patience is over, or a signal asks to leave."""
        try:
            while self.at.epoch < self.run.epochs and not self.out_of_patience():
                self.close_epoch(self.train_epoch())
        except Asked:
            self.save()
            self.say(f"saved at step {self.at.step} and leaving as asked; the same command continues")
            return self.result(self.signals.exit_code)
        for logger in self.loggers:
            logger.close()
        if self.world.first:
            stopped_early = self.at.epoch < self.run.epochs
            self.session.folder.finish(outcome.summary(self.session, stopped_early=stopped_early))
        return self.result(0)

    def train_epoch(self) -> Row:
        """The steps left of this epoch; returns how fast they went."""
        optimizer.train_mode(self.task)
        batches = self.loader.batches(self.at.epoch, self.at.step_in_epoch)
        left = len(self.loader) - self.at.step_in_epoch
        done, images, started = 0, 0, time.perf_counter()
        speed: Row = {}
        with Progress(f"epoch {self.at.epoch + 1}/{self.run.epochs}", left, enabled=self.world.first) as progress:
            for batch in batches:
                stop = self.signals.received is not None
                self.readings.append(self.stepper(batch, stop=stop, save=self.wants_save()))
                self.heed(keep=self.lag)
                if self.stop:
                    raise Asked
                if self.save_due:
                    self.save()
                done, images = done + 1, images + len(batch["index"]) * self.world.size
                seconds = time.perf_counter() - started
                speed = {"images_per_second": images / seconds, "seconds": seconds}
                all_left = duration((self.stepper.num_steps - self.at.step) * seconds / done)
                progress.advance(1, **self.means(), lr=self.lr(), images_per_second=images / seconds, left=all_left)
        self.heed()
        return speed

    def heed(self, keep: int = 0) -> None:
        """Take in the readings of past steps, all but the newest ``keep``."""
        while len(self.readings) > keep:
            reading = self.readings.popleft()
            norm, losses, stop, save = reading.values()
            self.stop, self.save_due = self.stop or stop, self.save_due or save
            overflow = self.session.training.scaler is not None and not math.isfinite(norm)  # fp16's daily bread
            if not math.isfinite(losses["loss"]) or not (math.isfinite(norm) or overflow):
                self.fault(reading, losses["loss"])
                continue
            self.at.faults = 0
            self.at.counted += 1
            for name, value in {f"train_{name}": value for name, value in losses.items()}.items():
                self.at.sums[name] = self.at.sums.get(name, 0.0) + value
            self.at.norm = self.at.norm if overflow else norm

    def fault(self, reading: Reading, loss: float) -> None:
        """A loss or gradient was not finite; the weights are as they were."""
        self.at.faults += 1
        what = "a gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        self.say(f"warning: epoch {self.at.epoch + 1}, step {reading.step_in_epoch + 1}: {what}; the step was skipped")
        if self.at.faults == faults.MAX_FAULTS:
            with whole(self.task):
                why = faults.culprits(self.task, self.loader, self.at.epoch, reading.step_in_epoch, self.world.device)
            raise UserError(f"{faults.MAX_FAULTS} steps in a row were not finite; {why}")

    def close_epoch(self, speed: Row) -> None:
        """Evaluate, write weights and the epoch's row, save."""
        at = self.at
        self.stepper.seed("epoch end", at.epoch)
        row: Row = {"epoch": at.epoch + 1, "step": at.step, "lr": self.lr(), **self.means(), "gradient_norm": at.norm}
        metrics = self.evaluate() if self.wants_evaluation() else {}
        self.judge(metrics)
        means = {name.removeprefix("train_"): value for name, value in self.means().items()}
        if at.epoch and not self.complained and (complaint := self.task.diagnose(means)):
            self.say(f"warning: {complaint}")
            self.complained = True
        outcome.save_weights(self.session, "last", metrics)
        row |= speed | {f"val_{name}": value for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log(row)
        if self.world.first and self.loader.bad:
            self.session.folder.note_bad({self.loader.source.name(i): why for i, why in self.loader.bad.items()})
        shown = ("train_loss", "val_loss", f"val_{self.task.monitor}", "lr", "images_per_second")
        numbers = "  ".join(f"{name} {row[name]:.4g}" for name in shown if name in row)
        self.say(f"epoch {at.epoch + 1}/{self.run.epochs}  {numbers}")
        at.epoch, at.step_in_epoch, at.counted, at.sums = at.epoch + 1, 0, 0, {}
        self.save()

    def evaluate(self) -> dict[str, float]:
        """The finite metrics of the validation split, with the averaged weights if there are any."""
        ema = self.session.training.ema
        # Ranks that leave in the middle would leave the others waiting, so only a single process may.
        loader = self.signals.watch(self.val) if self.world.size == 1 else self.val
        with whole(self.task if ema is None else ema.module) as task:
            found = evaluate(
                cast("Trainable", task),
                cast("Loader", loader),
                device=self.world.device,
                precision=self.run.precision,
                progress=self.world.first,
            )
        return {name: value for name, value in found.metrics.items() if math.isfinite(value)}

    def judge(self, metrics: dict[str, float]) -> None:
        """Are these the best weights so far? Not if the monitored metric is not among the finite ones."""
        at, monitor = self.at, self.task.monitor
        if not metrics or monitor is None:
            return
        value = metrics.get(monitor)
        sign = 1 if self.task.monitor_mode == "max" else -1
        if value is not None and (at.best is None or sign * value > sign * at.best):
            at.best, at.best_epoch, at.stale = value, at.epoch + 1, 0
            outcome.save_weights(self.session, "best", metrics)
        else:
            at.stale += 1

    def save(self) -> None:
        """Save the state for resuming."""
        self.heed()
        state.save(self.session.folder.state, self.session.training, self.world)
        self.save_due, self.saved_at = False, time.monotonic()

    def wants_save(self) -> bool:
        """Is the coming step one after which to save?"""
        every, seconds = self.run.save_steps, self.run.save_seconds
        timed = seconds is not None and time.monotonic() - self.saved_at >= seconds
        return timed or (every is not None and (self.at.step + 1) % every == 0)

    def wants_evaluation(self) -> bool:
        """After every ``evaluate_every`` epochs and the last."""
        epoch = self.at.epoch + 1
        return self.val is not None and (epoch % self.run.evaluate_every == 0 or epoch == self.run.epochs)

    def out_of_patience(self) -> bool:
        """No improvement for too long."""
        return self.run.patience is not None and self.at.stale >= self.run.patience

    def means(self) -> Row:
        """The epoch's mean losses so far."""
        return {name: value / self.at.counted for name, value in self.at.sums.items()}

    def lr(self) -> float:
        """The highest current learning rate."""
        return max(group["lr"] for group in self.session.training.optimizer.param_groups)

    def result(self, exit_code: int) -> Result:
        return Result(self.session.folder.path, self.at.epoch, self.at.best, exit_code)

    def say(self, text: str) -> None:
        """To the people, once."""
        if self.world.first:
            note(text)
