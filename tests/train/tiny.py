"""A training of a second: real data, loader, task and loop, all of them tiny. Importable by child processes."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig
from vitrail.tasks.classification import Task
from vitrail.train import state
from vitrail.train.loop import Result, fit
from vitrail.train.run import Run
from vitrail.train.trial import Cost
from vitrail.vit import ViTConfig

NUM_TRAIN = 48


def write_data(folder: Path, *, num_classes: int = 3, size: int = 8) -> Path:
    """``train.npz``, ``val.npz``: noise with a bright band whose place is the class."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", NUM_TRAIN), ("val", 24)):
        labels = rng.integers(0, num_classes, count)
        labels[:num_classes] = range(num_classes)
        images = rng.integers(0, 90, (count, size, size), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2] += 120
        np.savez(folder / f"{split}.npz", images=images, labels=labels)
    return folder


def tiny_run(data: Path, *, size: int = 8, model: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A run over :func:`write_data` with dropout, drop path and three of everything."""
    shape = {"patch_size": 4, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "class_token": False}
    block = {"dropout": 0.1, "drop_path": 0.1}
    vit = {"image_size": size, "channels": 1, **shape, "block": block, **(model or {})}
    settings: dict[str, Any] = {
        "data": DataConfig(
            source=SourceConfig(spec=str(data)),
            preprocess=PreprocessConfig(size=size, channels=1),
            loader=LoaderConfig(batch_size=8, workers=0),
        ),
        "model": ViTConfig(**vit),
        "task": "classification",
        "epochs": 3,
        "precision": "fp32",
        "device": "cpu",
        **changes,
    }
    return Run(**settings)


def untried(monkeypatch: Any) -> None:
    """No steps are measured before the training, so that every loss is that of one of its steps."""
    monkeypatch.setattr("vitrail.train.assemble.measure", lambda *_: Cost(seconds=0.0, num_bytes=0))


def broken_task(monkeypatch: Any, at: Callable[[int], str | None]) -> None:
    """Spoil the loss at the steps for which ``at`` gives ``loss`` (NaN), ``infinite`` (no gradient) or ``gradient``."""
    untried(monkeypatch)
    calls = itertools.count()
    loss = Task.loss

    def spoiled(self: Task, batch: Any) -> Any:
        result = loss(self, batch)
        what = at(next(calls)) if torch.is_grad_enabled() else None
        if what == "loss":
            result["loss"] = result["loss"] * torch.nan
        elif what == "infinite":
            result["loss"] = result["loss"] * 0 + torch.inf
        elif what == "gradient":
            result["loss"] = result["loss"] + torch.sqrt(result["loss"] * 0)
        return result

    monkeypatch.setattr(Task, "loss", spoiled)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of the newest state: of weights, optimizer and average, and of position, generator and counts."""
    newest = max(path for path in (folder / "state").iterdir() if path.name.isdigit())
    hashes: dict[str, str] = json.loads((newest / "manifest.json").read_text())["sha256"]
    return hashes


def train_in_child(run: Run, folder: Path, num_calls: Any = None, kill_at: int | None = None, **options: Any) -> None:
    """What a forked child does, with stderr in a log beside the folder.

    Args:
        num_calls: receives how many syncs and renames the saves of the state did.
        kill_at: kill -9 itself just before that one of them.
    """
    torch.set_num_threads(1)
    os.dup2(os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    calls = SaveCalls(kill_at)
    outcome: Result = fit(run, folder, **options)
    if num_calls is not None:
        num_calls.value = calls.count
    raise SystemExit(outcome.exit_code)


class SaveCalls:
    """Counts the syncs and renames while a state is saved, and may end the process at one of them."""

    def __init__(self, last: int | None) -> None:
        self.count, self.last, self.saving = 0, last, False
        self._save = state.save
        state.save = self.save
        os.fsync, os.replace = self.counting(os.fsync), self.counting(os.replace)

    def save(self, *arguments: Any) -> None:
        self.saving = True
        self._save(*arguments)
        self.saving = False

    def counting(self, function: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self.count += self.saving
            if self.saving and self.count == self.last:
                os.kill(os.getpid(), 9)
            return function(*arguments)

        return counted


def start_ranks(context: Any, run: Run, folder: Path, **options: Any) -> list[Any]:
    """Two processes of one training, as a launcher would start them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [context.Process(target=_rank, args=(rank, port, run, folder, options)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    return ranks


def _rank(rank: int, port: int, run: Run, folder: Path, options: dict[str, Any]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    train_in_child(run, folder, **options)


def warm_context() -> Any:
    """Children that start in milliseconds: forked from a server that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tiny", "vitrail.data.sources.npz", "vitrail.tasks.classification", "torch._dynamo"]
    )
    return context
