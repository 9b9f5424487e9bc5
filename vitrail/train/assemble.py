"""From a run to its parts: data, model with its initial weights, optimizer; ``auto`` resolved, state restored."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

from vitrail import lora
from vitrail.console import note, warn
from vitrail.data import Loader
from vitrail.distill.loading import with_teacher
from vitrail.nn.checkpointing import checkpoint_blocks
from vitrail.picture_losses import compared
from vitrail.train import monitor, optimizer, plan, precision, state
from vitrail.train.allocator import keep_freed_memory
from vitrail.train.compiling import compile_layers
from vitrail.train.data_record import describe
from vitrail.train.distributed import Parallel, World, shard
from vitrail.train.ema import Ema
from vitrail.train.folder import RunFolder
from vitrail.train.head_fit import fit_head
from vitrail.train.opening import build_task, open_run
from vitrail.train.requirements import require_supported
from vitrail.train.run import Run
from vitrail.train.state import LoopState, TrainState
from vitrail.train.trial import few_images, measure
from vitrail.trainable import Trainable, layers_of


@dataclass
class TrainContext:
    """Everything that lives during a training."""

    run: Run
    folder: RunFolder
    world: World
    loader: Loader
    val: Loader | None
    parallel: Parallel
    state: TrainState

    @property
    def model(self) -> Trainable:
        """What is trained."""
        return self.state.model

    def close(self) -> None:
        """End the loaders' processes."""
        for loader in (self.loader, self.val):
            if loader is not None:
                loader.close()


def assemble(
    run: Run, folder: RunFolder, world: World, *, extend: bool, planned_only: Path | None = None
) -> TrainContext:
    """Build the parts of ``run`` as ``folder`` left them; the main rank begins to write there.

    Args:
        planned_only: the folder to name in the plan, of a training that stops there.

    Raises:
        UserError: the run, its data or the folder do not allow it.
    """
    if world.is_main:
        folder.claim()
        state.clean(folder.state)
    complete = folder.read_summary() is not None
    run = world.broadcast(folder.reconcile(run, extend=extend) if world.is_main else run)
    saved = state.load(folder.state)
    run, data = open_run(run)
    task = build_task(run, data, fresh=saved is None)
    monitor.watch(task, run.monitor)
    require_supported(run, task, world)
    if shortened := run.schedule.shortened(run.epochs):
        warn(shortened)
    if run.lora is not None:
        lora.attach(task, run.lora)
    model = with_teacher(task, run.teacher, run.preprocess, world.device)
    model = compared(model, run.picture_loss, run.preprocess, world.device, allow_pickle=run.allow_pickle)
    optimizer.freeze(model, run.freeze)
    ema = Ema(model, run.ema) if run.ema else None
    if run.activation_checkpointing:
        checkpoint_blocks(layers_of(model))
    if saved is not None:
        saved.restore_weights(model, ema)
    if world.device.type == "cpu":
        keep_freed_memory()
    model.to(world.device)
    if ema is not None:
        ema.module.to(world.device)

    ranks = {"rank": world.rank, "world_size": world.size}
    loader = data.train_loader(seed=run.seed, epochs=run.epochs, **ranks)
    val = data.eval_loader("val", **ranks) if data.splits.val is not None else None
    trial = functools.cache(lambda: few_images(loader, model, world.device, run.accumulate))
    resolved = precision.resolve(run.precision, model, lambda copy: copy.loss(trial())["loss"], world.device)
    run = dataclasses.replace(run, precision=world.broadcast(resolved))
    if saved is None:
        cost = measure(model, trial(), run.precision, world)
        for line in plan.lines(run, model, data, len(loader), world, cost, planned_only or folder.path):
            note(line)
        if run.fit_head and run.init is not None and planned_only is None:
            fit_head(task, data.split("train"), run, world)
    if run.compile:
        compile_layers(model)
    parallel = Parallel(model, world, run.strategy, run.precision)
    if ema is not None and parallel.sharded:
        shard(ema.module, world, run.precision)
    rule = optimizer.build(model, run.optimizer, batch_size=run.data.loader.batch_size)
    train_state = TrainState(model, rule, ema, precision.scaler(run.precision, world.device), LoopState())
    if saved is not None:
        saved.restore(train_state, world)
        if complete and run.patience is not None and train_state.loop.stale >= run.patience:
            train_state.loop.stale = 0  # a training that stopped early and is extended continues
    if world.is_main:
        folder.begin(run, describe(run, data), resumed=saved is not None)
    return TrainContext(run, folder, world, loader, val, parallel, train_state)
