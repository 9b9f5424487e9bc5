"""What a training writes: self-contained weights files and the summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vitrail import files, lora
from vitrail.checkpoints import native
from vitrail.console import warn
from vitrail.files import Json
from vitrail.generate import Generative
from vitrail.generator import Generator
from vitrail.lora import peft
from vitrail.predictions.pictures import contact_sheet
from vitrail.predictions.synthetic import png_of_synthetic
from vitrail.train import soup
from vitrail.train.assemble import TrainContext
from vitrail.train.distributed import gather
from vitrail.train.loggers import csv
from vitrail.trainable import Trainable
from vitrail.version import __version__

NUM_SAMPLES = 10  # drawn after each evaluation


@dataclass(frozen=True)
class Result:
    """How a training ended: ``exit_code`` 0 if it is complete, 128 + signal if it saved and was interrupted."""

    folder: Path
    epochs: int
    best: float | None
    exit_code: int


def save_weights(context: TrainContext, name: str, metrics: dict[str, float]) -> None:
    """Write ``weights/<name>.safetensors``: the averaged weights if there are any. All ranks call it.

    Weights that are not finite are never written.
    """
    trained = context.state.evaluated().released()
    released = lora.merged(trained)
    tensors = {key: gather(value) for key, value in released.state_dict().items()}
    if not context.world.is_main:
        return
    if broken := [key for key, value in tensors.items() if not bool(value.isfinite().all())]:
        warn(f"{name} weights not saved: {broken[0]} is not finite")
        return
    native.save(context.folder.weights(name), tensors, _meta(context, released, metrics))
    if context.run.lora is not None:
        peft.write(context.folder.path / "adapter" / name, trained, context.run.lora, context.run.init)


def save_samples(context: TrainContext, model: Trainable) -> None:
    """Write what a generative model draws from the same noise after each evaluation, ``samples/epoch-0001.png``. The
    main rank calls it, with whole weights."""
    if not isinstance(model, Generative):
        return
    with torch.random.fork_rng(devices=()):
        drawn = Generator(model, context.run.preprocess, device=context.world.device).draw(count=NUM_SAMPLES)
    sheet = contact_sheet([each.image for each in drawn], columns=NUM_SAMPLES // 2)
    path = context.folder.path / "samples" / f"epoch-{context.state.loop.epoch + 1:04}.png"
    path.parent.mkdir(exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_bytes(png_of_synthetic(sheet, f"vitrail {__version__}"))


def save_average(context: TrainContext, model: Trainable, metrics: dict[str, float], training: dict[str, Json]) -> None:
    """Write ``weights/soup.safetensors``: a model that several trainings made."""
    if context.world.is_main:
        meta = native.meta_of(model, context.run.preprocess, metrics, training=training)
        native.save(context.folder.weights(soup.NAME), model.state_dict(), meta)


def chosen(context: TrainContext) -> str:
    """Which of its own weights a training gives: ``best`` or ``last``."""
    return "best" if context.state.loop.best is not None and context.run.release == "best" else "last"


def _meta(context: TrainContext, released: Trainable, metrics: dict[str, float]) -> dict[str, object]:
    run, at = context.run, context.state.loop
    training: dict[str, Json] = {
        "epoch": at.epoch + 1,
        "step": at.step,
        "seed": run.seed,
        "averaged": context.state.ema is not None,
        "precision": run.precision,
        "data": run.data.source.spec,
        "vitrail": __version__,
    }
    return native.meta_of(released, run.preprocess, metrics, training=training)


def summary(context: TrainContext, *, stopped_early: bool) -> dict[str, object]:
    """The result of a complete training, as ``summary.json`` holds it."""
    run, at, model = context.run, context.state.loop, context.model.released()
    rows = csv.read(context.folder.path / "metrics.csv")
    name = chosen(context) if run.members == 1 else soup.NAME
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    images = sum(row.get("images_per_second", 0.0) * row.get("seconds", 0.0) for row in rows)
    return {
        "status": "stopped early" if stopped_early else "complete",
        "task": model.name,
        "epochs": at.epoch,
        "steps": at.step,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "monitor": model.monitor,
        "best": None if at.best is None else {"epoch": at.best_epoch, model.monitor: at.best},
        "metrics": native.read_meta(context.folder.weights(name))["metrics"],
        "weights": f"weights/{name}.safetensors",
        "train": rows[-1],
        "peak_lr": max(group["peak_lr"] for group in context.state.optimizer.param_groups),
        "training_seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        "precision": run.precision,
        "device": str(context.world.device),
        "world_size": context.world.size,
    }
