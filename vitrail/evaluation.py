"""Measure a task on a loader: every image counts once, whatever the batch size or the number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitrail.console import Progress
from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.errors import UserError
from vitrail.metrics import Metrics

Rows: TypeAlias = Tensor | list[Any]
"""An entry an image."""


@dataclass(frozen=True)
class Evaluation:
    """What a pass measured. Rows follow ``index``, the positions in the source, in ascending order."""

    metrics: dict[str, float]
    outputs: Any  # array (N, K) float32; what the family keeps of outputs that have places, an image each
    targets: Any  # array (N,) of labels or (N, …), -1 where there are none; of objects a list, an image each
    index: np.ndarray  # (N,) int64
    seconds: float  # wall clock of the pass, loading included
    images_per_second: float
    family: Metrics  # filled with these outputs

    @cached_property
    def details(self) -> dict[str, Any]:
        """The family's tables and matrices, made when first asked for."""
        return self.family.details()


def evaluate(
    task: Any,
    loader: Any,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    forward: Callable[..., Tensor] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Run ``task`` over ``loader.batches(epoch=0)`` in evaluation mode and compute the task's metrics.

    When torch.distributed is initialised each rank brings its shard and every rank returns the whole result.

    Args:
        precision: ``fp32``, ``bf16`` or ``fp16`` autocast.
        forward: images to outputs, run instead of the task's own (a compiled or exported twin).

    Raises:
        UserError: nothing to evaluate, or an image that cannot be read.
    """
    device = torch.device(device)
    forward = forward or task
    family: Metrics = task.metrics()
    started = time.perf_counter()
    outputs: list[Rows] = []
    targets: list[Rows] = []
    index: list[Tensor] = []
    with (
        evaluation_mode(task),
        torch.inference_mode(),
        Progress("evaluate", len(loader), enabled=progress) as bar,
    ):
        for batch in loader.batches(epoch=0):
            _refuse_bad(batch)
            images = batch["images"].to(device, non_blocking=True)
            with torch.autocast(device.type, AUTOCAST_DTYPES.get(precision), enabled=precision in AUTOCAST_DTYPES):
                found = forward(images, batch["padding"].to(device)) if "padding" in batch else forward(images)
                outputs.append(family.reduce(found.float(), batch.get("geometries")))
            targets.append(batch["targets"] if "targets" in batch else torch.full_like(batch["index"], -1))
            index.append(batch["index"])
            bar.advance()
    rows = _gather_rows(outputs, targets, index)
    seconds = time.perf_counter() - started
    family.update(rows[0], rows[1])
    return Evaluation(
        metrics=family.compute(),
        outputs=_plain(rows[0]),
        targets=_plain(rows[1]),
        index=rows[2].numpy(),
        seconds=seconds,
        images_per_second=len(rows[2]) / seconds,
        family=family,
    )


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """``module.eval()`` for a while; afterwards every submodule is back in the mode it was in."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training


def _refuse_bad(batch: dict[str, Any]) -> None:
    """A number that silently leaves images out is no measurement."""
    if bad := batch.get("bad"):
        index, reason = bad[0]
        raise UserError(f"cannot evaluate: image {index} is unreadable ({reason}); repair or remove it")


def _gather_rows(outputs: list[Rows], targets: list[Rows], index: list[Tensor]) -> tuple[Rows, Rows, Tensor]:
    """Every rank's rows on the CPU, sorted by index; an index that several ranks saw counts once."""
    own = (_joined(outputs), _joined(targets), _joined(index)) if index else None
    shards = [own]
    if dist.is_available() and dist.is_initialized():
        shards = [None] * dist.get_world_size()
        dist.all_gather_object(shards, own)
    if not any(shards):
        raise UserError("there is nothing to evaluate: the split has no images; choose another with --split")
    seen, true, rows = (_joined(part) for part in zip(*(s for s in shards if s is not None), strict=True))
    keep = torch.from_numpy(np.unique(rows.numpy(), return_index=True)[1])
    return _chosen(seen, keep), _chosen(true, keep), rows[keep]


def _chosen(rows: Rows, places: Tensor) -> Rows:
    return rows[places] if isinstance(rows, Tensor) else [rows[place] for place in places.tolist()]


def _plain(rows: Rows) -> Any:
    return rows.numpy() if isinstance(rows, Tensor) else rows


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors or lists, batch after batch, on the CPU."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts)).cpu()
    return [row for part in parts for row in part]
