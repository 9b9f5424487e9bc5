"""Measure a task on a loader: every image counts once, whatever the batch size or the number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitrail.console import Progress
from vitrail.errors import UserError
from vitrail.metrics import Metrics

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """What a pass measured. Rows follow ``index``, the positions in the source, in ascending order."""

    metrics: dict[str, float]
    outputs: np.ndarray  # (N, K) float32
    targets: np.ndarray  # (N,) labels or (N, K); -1 where there are none
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
    forward: Callable[[Tensor], Tensor] | None = None,
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
    started = time.perf_counter()
    outputs, targets, index = [], [], []
    with (
        evaluation_mode(task),
        torch.inference_mode(),
        Progress("evaluate", len(loader), enabled=progress) as bar,
    ):
        for batch in loader.batches(epoch=0):
            _refuse_bad(batch)
            images = batch["images"].to(device, non_blocking=True)
            with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
                outputs.append(forward(images).float())
            targets.append(batch["targets"] if "targets" in batch else torch.full_like(batch["index"], -1))
            index.append(batch["index"])
            bar.advance()
    rows = _gather_rows(outputs, targets, index)
    seconds = time.perf_counter() - started
    family = task.metrics()
    family.update(rows[0], rows[1])
    return Evaluation(
        metrics=family.compute(),
        outputs=rows[0].numpy(),
        targets=rows[1].numpy(),
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


def _gather_rows(outputs: list[Tensor], targets: list[Tensor], index: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Every rank's rows on the CPU, sorted by index; an index that several ranks saw counts once."""
    own = [torch.cat(part).cpu() for part in (outputs, targets, index)] if index else None
    shards = [own]
    if dist.is_available() and dist.is_initialized():
        shards = [None] * dist.get_world_size()
        dist.all_gather_object(shards, own)
    shards = [shard for shard in shards if shard is not None]
    if not shards:
        raise UserError("there is nothing to evaluate: the split has no images; choose another with --split")
    rows = [torch.cat(part) for part in zip(*shards, strict=True)]
    keep = torch.from_numpy(np.unique(rows[2].numpy(), return_index=True)[1])
    return rows[0][keep], rows[1][keep], rows[2][keep]
