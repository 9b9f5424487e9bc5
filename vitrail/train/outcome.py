"""What a training leaves: self-contained weights files and the summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.checkpoints import native
from vitrail.config import to_dict
from vitrail.console import warn
from vitrail.distill import released
from vitrail.train.assemble import Session
from vitrail.train.distributed import gather
from vitrail.train.loggers import csv
from vitrail.version import __version__


@dataclass(frozen=True)
class Result:
    """How a training ended: ``exit_code`` 0 if it is complete, 128 + signal if it saved and left."""

    folder: Path
    epochs: int
    best: float | None
    exit_code: int


def save_weights(session: Session, name: str, metrics: dict[str, float]) -> None:
    """Write ``weights/<name>.safetensors``: the averaged weights if there are any. All ranks call it.

    Weights that are not finite are never written.
    """
    run, at, ema = session.run, session.training.position, session.training.ema
    module = session.task if ema is None else ema.module
    state = {key: gather(value) for key, value in released(module.state_dict()).items()}
    if not session.world.first:
        return
    if broken := [key for key, value in state.items() if not bool(value.isfinite().all())]:
        warn(f"{name} weights not saved: {broken[0]} is not finite")
        return
    meta = {
        "task": session.task.name,
        "config": to_dict(session.task.config),
        "preprocess": to_dict(run.preprocess),
        "metrics": metrics,
        "training": {
            "epoch": at.epoch + 1,
            "step": at.step,
            "seed": run.seed,
            "averaged": ema is not None,
            "precision": run.precision,
            "data": run.data.source.spec,
            "vitrail": __version__,
        },
    }
    native.save(session.folder.weights(name), state, meta)


def summary(session: Session, *, stopped_early: bool) -> dict[str, Any]:
    """The result of a complete training, as ``summary.json`` holds it."""
    run, at, task = session.run, session.training.position, session.task
    rows = csv.read(session.folder.path / "metrics.csv")
    name = "best" if at.best is not None else "last"
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    parameters = released(dict(task.named_parameters())).values()
    images = sum(row.get("images_per_second", 0.0) * row.get("seconds", 0.0) for row in rows)
    return {
        "status": "stopped early" if stopped_early else "complete",
        "task": task.name,
        "epochs": at.epoch,
        "steps": at.step,
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "monitor": task.monitor,
        "best": None if at.best is None else {"epoch": at.best_epoch, task.monitor: at.best},
        "metrics": native.read_meta(session.folder.weights(name))["metrics"],
        "weights": f"weights/{name}.safetensors",
        "train": rows[-1],
        "training_seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        "precision": run.precision,
        "device": str(session.world.device),
        "world_size": session.world.size,
    }
