"""Which settings of a run go together with its task."""

from __future__ import annotations

import math

from vitrail.console import note
from vitrail.data import AugmentConfig, MixConfig, targets
from vitrail.errors import UserError
from vitrail.sizes import require_tiles
from vitrail.train.distributed import World
from vitrail.train.run import Run
from vitrail.trainable import Trainable


def require_input_fits(run: Run, task: Trainable) -> None:
    """Check that the model takes the images that are made.

    Raises:
        UserError: ``data.preprocess`` or ``data.scenes`` makes a size or a number of channels that it does not take.
    """
    preprocess, scenes = run.preprocess, run.data.scenes
    require_tiles(preprocess, task)
    if preprocess.tiles is not None and targets.load(task.takes[0]).training(preprocess) is None:
        note(run.data.tiles.in_words(preprocess.tiles))
    if preprocess.channels != task.inputs.channels:
        raise UserError(
            f"data.preprocess.channels {preprocess.channels} and model.channels {task.inputs.channels} differ; "
            "set model.channels alone"
        )
    task.inputs.accepts(preprocess.size)
    for size in scenes.sizes(preprocess.size) if task.spatial() else ():
        try:
            task.inputs.accepts(size)
        except UserError:
            patch = run.model.patch_size
            raise UserError(
                f"data.scenes.batch_scale makes {size[0]}×{size[1]} pixels, which patches of {patch[0]}×{patch[1]} do "
                f"not cover; set data.scenes.multiple={math.lcm(*patch)}"
            ) from None


def require_supported(run: Run, task: Trainable, world: World) -> None:
    """Check settings against what the task compares and measures.

    Raises:
        UserError: with the setting to change.
    """
    if task.num_views and run.data.loader.on_bad == "skip" and world.size > 1:
        raise UserError(
            f"{run.task!r} compares the images of all processes, so none may have fewer: repair the unreadable ones "
            "(`vitrail data check` lists them) and leave on_bad=skip out, or train in one process"
        )
    if task.whole_batch and run.accumulate > 1:
        raise UserError(
            f"{run.task!r} compares the images of a batch, and pieces of it would be another objective: leave "
            "accumulate out; more processes, a smaller model or a smaller data.loader.batch_size need less memory"
        )
    if run.compile and run.activation_checkpointing:
        raise UserError(
            "compile and activation_checkpointing together may drop other values when a layer is computed again; "
            "choose one of them"
        )
    if run.lora is not None and (run.init is None or run.strategy == "fsdp"):
        need = "weights to start from: give --init" if run.init is None else "whole kernels: choose strategy=ddp"
        raise UserError(f"lora adapts trained weights and needs {need}")
    if run.picture_loss is not None and run.picture_loss.adversarial is not None and run.strategy == "fsdp":
        raise UserError("picture_loss.adversarial needs whole weights of its discriminator: choose strategy=ddp")
    if run.strategy == "fsdp" and not task.shardable:
        raise UserError(f"{run.task!r} needs whole weights in every process: choose strategy=ddp")
    if run.members > 1 and (run.init is None or run.lora is not None):
        need = "weights to start from: give --init" if run.init is None else "whole weights: leave lora out"
        raise UserError(f"members averages trainings from the same weights and needs {need}")
    if task.monitor is None and run.patience is not None:
        raise UserError(f"patience waits for a better metric and {run.task!r} has none; leave patience out")


def require_views_fit(run: Run, task: Trainable) -> None:
    """Check that patches cover the views, that local views are smaller, and that every augmentation has an effect.

    Raises:
        UserError: with the setting to change.
    """
    full, patch = run.preprocess.size, run.model.patch_size
    if run.data.views and run.data.augment != AugmentConfig():
        raise UserError(
            f"data.augment makes one view and {run.task!r} learns from several: set data.views.0.augment and so on"
        )
    for number, view in enumerate(run.data.views):
        if (view.augment.mix, view.augment.repeats) != (MixConfig(), 1):
            own = f"data.views.{number}.augment"
            raise UserError(f"views are neither mixed nor repeated: set {own}.mix={{}} and {own}.repeats=1")
        height, width = size = view.size(full)
        made = f"data.views.{number} makes {height}×{width} pixels of {full[0]}×{full[1]}"
        if view.scale < 1 and (height >= full[0] or width >= full[1]):
            raise UserError(f"{made}, which is no smaller: lower data.views.{number}.multiple, or enlarge the images")
        try:
            task.inputs.accepts(size)
        except UserError:
            raise UserError(
                f"{made}, which patches of {patch[0]}×{patch[1]} do not cover; "
                f"set data.views.{number}.multiple={math.lcm(*patch)}, or enlarge the images"
            ) from None
