"""The one training loop.

On a GPU the outputs of a step reach the host while the next step already runs, so faults, signals and saves are handled
one step later there, and immediately on a CPU. A step that is not finite changes no weights either way.
"""

from __future__ import annotations

import math
import shlex
import time
from collections import deque
from contextlib import closing
from pathlib import Path

from vitrail.console import Progress, duration, note
from vitrail.data.loading.loader import worker_failure
from vitrail.errors import UserError
from vitrail.evaluation import evaluate, evaluation_mode
from vitrail.train import artifacts, faults, optimizer, soup, state
from vitrail.train.artifacts import Result
from vitrail.train.assemble import TrainContext, assemble
from vitrail.train.distributed import World, join, unsharded
from vitrail.train.folder import RunFolder
from vitrail.train.loggers import Row, open_loggers
from vitrail.train.monitor import in_words
from vitrail.train.run import Run
from vitrail.train.signals import Signals, StopRequested
from vitrail.train.step import StepOutput, TrainStep
from vitrail.trainable import Trainable


def fit(run: Run, folder: str | Path, *, extend: bool = False) -> Result:
    """Train, or continue what ``folder`` holds of this same run.

    Args:
        extend: the user resumes, and ``run.epochs`` may be more than before.

    Raises:
        RankLost: another process of the training is gone.
        UserError: a mistake in the run or its data, a folder that holds something else, a full disk, three
            consecutive steps that are not finite, a dead loader process.
    """
    try:
        with join(run.device, run.timeout) as world, Signals() as signals:
            return _train(run, RunFolder(folder), world, signals, extend=extend)
    except RuntimeError as error:
        if (explained := worker_failure(error)) is None:
            raise
        raise explained from None


def _train(run: Run, place: RunFolder, world: World, signals: Signals, *, extend: bool) -> Result:
    """One training, and those whose weights are averaged with its own."""
    try:
        with world.only_main_prints():
            context = assemble(run, place, world, extend=extend)
        with closing(context):
            signals.deferring = True
            loop = Loop(context, signals)
            result = loop.run_epochs()
            for number, (member, path) in enumerate(soup.others(context.run, place), start=2):
                if result.exit_code == 0 and not soup.complete(member, path, extend=extend):
                    loop.say(f"training {number} of {run.members}, seed {member.seed}: {path}")
                    result = _train(member, RunFolder(path), world, signals, extend=extend)
            return loop.result(result.exit_code) if result.exit_code else loop.finish()
    finally:
        place.release()


class Loop:
    """A training, from its current state to its end."""

    def __init__(self, context: TrainContext, signals: Signals) -> None:
        self.context, self.signals = context, signals
        self.run, self.world, self.model = context.run, context.world, context.model
        self.loader, self.val, self.at = context.loader, context.val, context.state.loop
        self.train_step = TrainStep(context)
        self.outputs: deque[StepOutput] = deque()
        self.lag = 1 if self.world.device.type == "cuda" else 0  # steps until outputs are handled
        self.stop = self.save_due = self.diagnosed = False
        self.saved_at = time.monotonic()
        self.loggers = open_loggers(self.run.loggers, context.folder.path, self.at.epoch) if self.world.is_main else []
        if self.at.step:
            self.say(f"continuing {context.folder.path} at epoch {self.at.epoch + 1}, step {self.at.step}")

    def run_epochs(self) -> Result:
        """Train epochs until all are done, patience is over, or a signal requests a stop."""
        try:
            while self.at.epoch < self.run.epochs and not self.out_of_patience():
                self.close_epoch(self.train_epoch())
        except StopRequested:
            self.save()
            return self.stopped(f"saved at step {self.at.step} and stopping")
        for logger in self.loggers:
            logger.close()
        return self.result(0)

    def finish(self) -> Result:
        """Average the members, if there are several, and write the summary, which completes the run."""
        try:
            if self.run.members > 1:
                self.average_members()
        except StopRequested:
            return self.stopped("stopping before the average of all trainings")
        if self.world.is_main:
            stopped_early = self.at.epoch < self.run.epochs
            self.context.folder.finish(artifacts.summary(self.context, stopped_early=stopped_early))
        return self.result(0)

    def average_members(self) -> None:
        """Measure and write the mean weights of all members; all ranks read what the main one wrote."""
        self.world.broadcast(None)
        model, training = soup.averaged(self.context.folder, artifacts.chosen(self.context), self.run)
        metrics = self.measure(model.to(self.world.device)) if self.val is not None else {}
        artifacts.save_average(self.context, model, metrics, training)

    def train_epoch(self) -> Row:
        """Take the remaining steps of this epoch; returns their speed."""
        optimizer.train_mode(self.model)
        batches = self.loader.batches(self.at.epoch, self.at.step_in_epoch)
        left = len(self.loader) - self.at.step_in_epoch
        done, images, started = 0, 0, time.perf_counter()
        speed: Row = {}
        with Progress(f"epoch {self.at.epoch + 1}/{self.run.epochs}", left, enabled=self.world.is_main) as progress:
            for batch in batches:
                stop = self.signals.received is not None
                self.outputs.append(self.train_step(batch, stop=stop, save=self.wants_save()))
                self.drain(keep=self.lag)
                if self.stop:
                    raise StopRequested
                if self.save_due:
                    self.save()
                done, images = done + 1, images + len(batch["index"]) * self.world.size
                seconds = time.perf_counter() - started
                speed = {"images_per_second": images / seconds, "seconds": seconds}
                all_left = duration((self.train_step.num_steps - self.at.step) * seconds / done)
                shown = {**self.means(), "rate": self.lr(), "images/s": images / seconds, "left": all_left}
                progress.advance(1, **shown)
        self.drain()
        return speed

    def drain(self, keep: int = 0) -> None:
        """Handle the outputs of past steps, all but the newest ``keep``."""
        while len(self.outputs) > keep:
            output = self.outputs.popleft()
            norm, losses, stop, save = output.values()
            self.stop, self.save_due = self.stop or stop, self.save_due or save
            overflow = self.context.state.scaler is not None and not math.isfinite(norm)  # common in fp16
            if not math.isfinite(losses["loss"]) or not (math.isfinite(norm) or overflow):
                self.fault(output, losses["loss"])
                continue
            self.at.faults = 0
            self.at.counted += 1
            for name, value in {f"train_{name}": value for name, value in losses.items()}.items():
                self.at.sums[name] = self.at.sums.get(name, 0.0) + value
            self.at.norm = self.at.norm if overflow else norm

    def fault(self, output: StepOutput, loss: float) -> None:
        """Handle a loss or gradient that was not finite; the step changed no weights."""
        self.at.faults += 1
        what = "a gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        self.say(f"warning: epoch {self.at.epoch + 1}, step {output.step_in_epoch + 1}: {what}; the step was skipped")
        if self.at.faults == faults.MAX_FAULTS:
            with unsharded(self.model):
                why = faults.culprits(self.model, self.loader, self.at.epoch, output.step_in_epoch, self.world.device)
            raise UserError(f"{faults.MAX_FAULTS} steps in a row were not finite; {why}")

    def close_epoch(self, speed: Row) -> None:
        """Evaluate, write weights and the epoch's row, save."""
        at = self.at
        self.train_step.seed("epoch end", at.epoch)
        row: Row = {"epoch": at.epoch + 1, "step": at.step, "lr": self.lr(), **self.means(), "gradient_norm": at.norm}
        metrics = self.evaluate_safely() if self.wants_evaluation() else {}
        self.update_best(metrics)
        means = {name.removeprefix("train_"): value for name, value in self.means().items()}
        if at.epoch and not self.diagnosed and (diagnosis := self.model.diagnose(means)):
            self.say(f"warning: {diagnosis}")
            self.diagnosed = True
        artifacts.save_weights(self.context, "last", metrics)
        row |= speed | {f"val_{name}": value for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log(row)
        if self.world.is_main and self.loader.bad:
            self.context.folder.note_bad({self.loader.source.name(i): why for i, why in self.loader.bad.items()})
        self.say(f"epoch {at.epoch + 1}/{self.run.epochs}  {in_words(row, self.model)}")
        at.epoch, at.step_in_epoch, at.counted, at.sums = at.epoch + 1, 0, 0, {}
        self.save()

    def evaluate_safely(self) -> dict[str, float]:
        """As :meth:`evaluate`; where that fails, the weights of the epoch are written first."""
        try:
            return self.evaluate()
        except StopRequested:
            raise
        except Exception:
            if self.world.size == 1:  # all ranks write together, and the others may be well
                artifacts.save_weights(self.context, "last", {})
                self.say(f"the weights are in {self.context.folder.weights('last')}; measuring them failed")
            raise

    def evaluate(self) -> dict[str, float]:
        """The finite metrics of the validation split, with the averaged weights if there are any."""
        with unsharded(self.context.state.evaluated()) as model:
            found = self.measure(model.released())
            if self.world.is_main:
                with evaluation_mode(model):
                    artifacts.save_samples(self.context, model.released())
            return found

    def measure(self, model: Trainable) -> dict[str, float]:
        """The finite metrics of a model on the validation split."""
        # A rank that stops in the middle would leave the others waiting, so only a single process may.
        assert self.val is not None
        loader = self.signals.interrupting(self.val) if self.world.size == 1 else self.val
        device, shown = self.world.device, self.world.is_main
        found = evaluate(model, loader, device=device, precision=self.run.precision, progress=shown)
        return {name: value for name, value in found.metrics.items() if math.isfinite(value)}

    def update_best(self, metrics: dict[str, float]) -> None:
        """Save the weights if they are the best so far; not if the monitored metric is not finite."""
        at, monitor = self.at, self.model.monitor
        if not metrics or monitor is None:
            return
        value = metrics.get(monitor)
        sign = 1 if self.model.monitor_mode == "max" else -1
        if value is not None and (at.best is None or sign * value > sign * at.best):
            at.best, at.best_epoch, at.stale = value, at.epoch + 1, 0
            if self.run.release == "best":
                artifacts.save_weights(self.context, "best", metrics)
        else:
            at.stale += 1

    def save(self) -> None:
        """Save the state for resuming."""
        self.drain()
        state.save(self.context.folder.state, self.context.state, self.world)
        self.save_due, self.saved_at = False, time.monotonic()

    def wants_save(self) -> bool:
        """Whether to save after the coming step."""
        every, seconds = self.run.save_steps, self.run.save_seconds
        timed = seconds is not None and time.monotonic() - self.saved_at >= seconds
        return timed or (every is not None and (self.at.step + 1) % every == 0)

    def wants_evaluation(self) -> bool:
        """Whether to evaluate: after every ``evaluate_every`` epochs and the last."""
        epoch = self.at.epoch + 1
        return self.val is not None and (epoch % self.run.evaluate_every == 0 or epoch == self.run.epochs)

    def out_of_patience(self) -> bool:
        """Whether there was no improvement for too long."""
        return self.run.patience is not None and self.at.stale >= self.run.patience

    def means(self) -> Row:
        """The epoch's mean losses so far."""
        return {name: value / self.at.counted for name, value in self.at.sums.items()}

    def lr(self) -> float:
        """The highest current learning rate."""
        return max(group["lr"] for group in self.context.state.optimizer.param_groups)

    def result(self, exit_code: int) -> Result:
        return Result(self.context.folder.path, self.at.epoch, self.at.best, exit_code)

    def stopped(self, what: str) -> Result:
        """The result of a training that a signal stopped; says how it continues."""
        place = shlex.quote(str(self.context.folder.path))
        self.say(f"{what} as requested; the same command continues, or vitrail train --resume {place}")
        return self.result(self.signals.exit_code)

    def say(self, text: str) -> None:
        """Print a note, on the main rank."""
        if self.world.is_main:
            note(text)
