"""From a run to its parts: data, model with its initial weights, optimizer; ``auto`` resolved, state restored."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import lora, registry
from vitrail.build import REGISTRIES, open_checkpoint
from vitrail.config import to_dict
from vitrail.console import note, warn
from vitrail.data import AugmentConfig, Data, Loader, MixConfig, Source, SourceConfig, open_data, targets
from vitrail.data.inspection.teaching import cannot_teach, too_many
from vitrail.data.pixel_state import state_of
from vitrail.distill.loading import with_teacher
from vitrail.errors import UserError
from vitrail.nn.checkpointing import checkpoint_blocks
from vitrail.predictions import Prediction
from vitrail.sizes import adapt_channels, require_tiles, resize
from vitrail.tasks import Task
from vitrail.train import monitor, optimizer, plan, precision, state
from vitrail.train.allocator import keep_freed_memory
from vitrail.train.compiling import compile_layers
from vitrail.train.distributed import Parallel, World, shard
from vitrail.train.ema import Ema
from vitrail.train.folder import RunFolder
from vitrail.train.head_fit import fit_head
from vitrail.train.run import Run
from vitrail.train.state import LoopState, TrainState
from vitrail.train.trial import few_images, measure
from vitrail.trainable import Embedder, EncoderModule, Trainable, image_encoder, layers_of


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
    _require_supported(run, task, world)
    if shortened := run.schedule.shortened(run.epochs):
        warn(shortened)
    if run.lora is not None:
        lora.attach(task, run.lora)
    model = with_teacher(task, run.teacher, run.preprocess, world.device)
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


def open_run(run: Run) -> tuple[Run, Data]:
    """The run with its task where that was ``auto``, and its data.

    Raises:
        UserError: as ``open_source``, or no task learns from such data.
    """
    if run.task != "auto":
        source = registry.load_from(REGISTRIES, run.task, "Task", "Config").Task.source(run.data.source)
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
    data = open_data(run.data)
    if run.task == "auto":
        run = dataclasses.replace(run, task=task_for(data.kind))
        note(f"task: {run.task} (auto)")
    return run, data


def task_for(kind: str) -> str:
    """The name of the task that learns from labels of this kind.

    Raises:
        UserError: there is none.
    """
    tasks = {name: registry.load("tasks", name).Task.takes for name in registry.names("tasks")}
    for name in sorted(tasks, key=lambda name: tasks[name][:1] != (kind,)):  # prefer a task whose first kind it is
        if kind in tasks[name]:
            return name
    if targets.load(kind).labelled:
        raise UserError(f"no task of Vitrail learns from data of kind {kind!r}; name the module of one with --task")
    raise UserError("no task learns from images without labels; give labels, or learn without by `vitrail pretrain`")


def build_task(run: Run, data: Data, *, fresh: bool = True) -> Trainable:
    """The task or method for the data, on the CPU, initialised from ``run.seed`` and, if ``fresh``, from ``run.init``.

    Raises:
        UserError: no training data, labels that the task does not take, or weights that do not fit.
    """
    train = data.split("train")
    module: Any = registry.load_from(REGISTRIES, run.task, "Task", "Config")
    if train.kind not in module.Task.takes:
        raise UserError(
            f"the task {run.task!r} learns from {' or '.join(module.Task.takes)} labels and the data has "
            f"{train.kind}; choose another --task"
        )
    if issubclass(module.Task, Task) and (fault := cannot_teach(train)):
        raise UserError(f"{run.data.source.spec!r} cannot be learned from: {fault}")
    num_views = sum(view.count for view in run.data.views)
    if num_views < module.Task.num_views or (num_views and not module.Task.num_views):
        wanted = f"at least {module.Task.num_views} views" if module.Task.num_views else "one view"
        raise UserError(f"{run.task!r} learns from {wanted} of an image and data.views has {num_views}; see its recipe")
    if "class_weights" in run.task_options and "class_weights" not in module.Config.__dataclass_fields__:
        raise UserError(
            f"the task {run.task!r} has no class weights: leave balance out, which is for classes of images"
        )
    torch.manual_seed(run.seed)
    options = module.Task.derived_options(run.preprocess) | run.task_options
    task: Trainable = module.Task(module.Task.configure(run.model, train.classes, train.targets, options))
    capacity = task.capacity if isinstance(task, Task) else None
    if capacity is not None and (few := too_many(train, capacity)):
        warn(few)
    _require_input_fits(run, task)
    _require_views_fit(run, task)
    if fresh and run.init is not None:
        initialise_from(task, run.init, allow_pickle=run.allow_pickle, names=run.init_names)
    return task


def _require_input_fits(run: Run, task: Trainable) -> None:
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


def _require_supported(run: Run, task: Trainable, world: World) -> None:
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
    if run.members > 1 and (run.init is None or run.lora is not None):
        need = "weights to start from: give --init" if run.init is None else "whole weights: leave lora out"
        raise UserError(f"members averages trainings from the same weights and needs {need}")
    if task.monitor is None and run.patience is not None:
        raise UserError(f"patience waits for a better metric and {run.task!r} has none; leave patience out")


def _require_views_fit(run: Run, task: Trainable) -> None:
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


def initialise_from(task: Trainable, path: str, *, allow_pickle: bool = False, names: str | None = None) -> None:
    """Start from trained weights, at another image or patch size, for other channels and other classes too.

    All encoders of the task get those of the source's first one, which must have the same architecture. The rest is
    kept where it is for the same outputs; of a task with ``class_rows``, such as a detector, also for other classes,
    but for the rows of those that the source does not have. Any other head is reinitialised. Prints which.

    Args:
        allow_pickle, names: as of :func:`vitrail.build.open_checkpoint`.

    Raises:
        UserError: no weights there, or of another architecture.
    """
    found = open_checkpoint(path, allow_pickle=allow_pickle, names=names, backbone=True)
    for line in found.assumed:
        note(line)
    source = found.load()
    encoder = image_encoder(source)
    before, wanted = encoder.config, image_encoder(task).config
    message = "backbone kept"
    if (before.image_size, before.patch_size) != (wanted.image_size, wanted.patch_size):
        resize(source, wanted.image_size, wanted.patch_size)
        message = f"backbone resized from {before.image_size} pixels to {wanted.image_size}"
    if (adapted := adapt_channels(source, wanted.channels)) is not None:
        message += f", {adapted}"
    weights = encoder.state_dict()
    if differing := _differing(weights, image_encoder(task).state_dict()):
        raise UserError(
            f"the weights of {path} are for another model (vit.{differing[0]} differs); give the same --model"
        )
    rest, own = _without_encoders(source), _without_encoders(task)
    differing = _differing(rest, own)
    outputs = len(_outputs(task))
    if not differing and _outputs(source) == _outputs(task):
        kept, head = rest, "head kept"
    elif (
        isinstance(task, Task)
        and task.class_rows
        and (isinstance(source, type(task)) or isinstance(task, type(source)))
    ):
        kept = _kept_by_class(rest, own, _outputs(source), task)
        known = len(set(task.names).intersection(_outputs(source)))
        fresh = sorted({name.split(".")[0] for name in own.keys() - kept.keys()})
        head = f"head kept, its rows for {outputs - known} of {outputs} classes fresh"
        head += f", and fresh {', '.join(fresh)}" if fresh else ""
    else:
        kept = {name: rest[name] for name in rest if name.startswith("pool.") and name not in differing}
        head = f"fresh head for {outputs} outputs" if outputs else "the rest is fresh"
    task.load_state_dict(kept, strict=False)
    for each in task.encoders().values():
        each.load_state_dict(weights)
    note(f"init from {path}: {message}, {head}")


def describe(run: Run, data: Data) -> dict[str, object]:
    """The content of ``data.json``: the hash of the index, classes, counts, and unreadable files so far."""
    splits = dict(data.splits.items())
    fingerprints = {name: source.fingerprint() for name, source in splits.items()}
    inside = {name: content_hash(source, run.data.source) for name, source in splits.items()}
    return {
        "source": to_dict(run.data.source),
        "sha256": hashlib.sha256(repr(fingerprints).encode()).hexdigest(),
        "content_sha256": hashlib.sha256(repr(inside).encode()).hexdigest(),
        "pixels": {name: state_of(source) for name, source in splits.items()},
        "kind": data.kind,
        "classes": list(data.classes),
        "counts": {name: len(source) for name, source in splits.items()},
        "bad_files": {},
    }


def content_hash(source: Source, config: SourceConfig) -> str:
    """The fingerprint of a source, the same wherever its folder lies."""
    if not config.location:
        return source.fingerprint()
    path = Path(config.root or config.location).expanduser()
    folder = path if path.is_dir() else path.parent
    candidates = [str(folder), str(folder.resolve())]
    first = source.name(0) if len(source) else ""
    return source.fingerprint(next((each for each in candidates if first.startswith(f"{each}/")), ""))


def _differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """The names that only one of them has, or in another shape."""
    both = {name for name in found.keys() & wanted.keys() if found[name].shape == wanted[name].shape}
    return sorted((found.keys() | wanted.keys()) - both)


def _kept_by_class(
    found: dict[str, Tensor], wanted: dict[str, Tensor], names: Sequence[str], task: Task[Prediction]
) -> dict[str, Tensor]:
    """What a task takes of a state dict for the classes ``names``: tensors of the same shape, and of those with a row
    for each class the rows of the classes that it shares, with all rows of no class."""
    of_classes = {name for name in found if any(fnmatchcase(name, each) for each in task.class_rows)}
    kept = {name: found[name] for name in found if name not in of_classes}
    kept = {name: value for name, value in kept.items() if name in wanted and wanted[name].shape == value.shape}
    shared = [name for name in task.names if name in names]
    to, of = ([each.index(name) for name in shared] for each in (task.names, list(names)))
    for name in of_classes & wanted.keys():
        rows = wanted[name].clone()
        others = len(rows) - len(task.names)
        if found[name].shape == (len(names) + others, *rows.shape[1:]):
            rows[to], rows[len(task.names) :] = found[name][of], found[name][len(names) :]
            kept[name] = rows
    return kept


def _without_encoders(task: EncoderModule) -> dict[str, Tensor]:
    """The state dict without the encoders' tensors."""
    inside = tuple(f"{path}." for path in task.encoders())
    return {name: value for name, value in task.state_dict().items() if not name.startswith(inside)}


def _outputs(model: EncoderModule) -> tuple[str, ...]:
    """The names of the classes or numbers that it predicts; none if it has no head."""
    return model.names if isinstance(model, Embedder) else ()
