"""Measure a model on a loader: every image counts once, whatever the batch size or the number of processes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeAlias, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import TypeVar

from vitrail.console import Progress, html_table
from vitrail.data.batch import Batch
from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.errors import UserError
from vitrail.metrics import Metrics, Rows
from vitrail.trainable import EncoderModule, Forward, require_trainable

Results: TypeAlias = tuple[Rows, Rows, Tensor]

O = TypeVar("O", default=Any)  # noqa: E741
T = TypeVar("T", default=Any)


class EvaluationLoader(Protocol):
    """Batches of every image, such as a :class:`vitrail.data.Loader`'s."""

    def __len__(self) -> int:
        """Number of batches."""

    def batches(self, epoch: int = 0) -> Iterable[Batch]:
        """The batches, each with ``index``."""


@dataclass(frozen=True, repr=False)
class Evaluation(Generic[O, T]):
    """The results of one pass. Rows follow ``index``, the positions in the source, in ascending order.

    Attributes:
        outputs: what the metric family keeps of each image: an array (N, K) float32, or a list.
        targets: an array (N,) or (N, …), -1 where there are none; of spatial targets a list.
        index: int64 (N,).
        seconds: wall clock of the pass, loading included.
        family: filled with these outputs.
    """

    metrics: dict[str, float]
    outputs: O
    targets: T
    index: NDArray[np.int64]
    seconds: float
    images_per_second: float
    family: Metrics

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"<{len(self.index):,} images: {numbers}>"

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.4g}") for name, value in self.metrics.items()]
        return html_table((f"{len(self.index):,} images", "value"), rows)

    @cached_property
    def details(self) -> dict[str, Any]:
        """The family's tables and matrices, made on first access."""
        return self.family.details()


def evaluate(
    model: EncoderModule,
    loader: EvaluationLoader,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    forward: Forward | None = None,
    progress: bool = True,
    threshold: float | None = None,
) -> Evaluation:
    """Run ``model.evaluate_batch`` over ``loader.batches(epoch=0)`` in evaluation mode and compute the metrics.

    When torch.distributed is initialised each rank evaluates its shard and every rank returns all results.

    Args:
        precision: ``fp32``, ``bf16`` or ``fp16`` autocast.
        threshold: the score from which predictions count where they must be counted; default: the metrics choose.
        forward: images to outputs, run instead of the model's own (a compiled or exported twin).

    Raises:
        UserError: a model without metrics, nothing to evaluate, or an image that cannot be read.
    """
    model, device = require_trainable(model), torch.device(device)
    started = time.perf_counter()
    outputs: list[Rows] = []
    targets: list[Rows] = []
    index: list[Tensor] = []
    with (
        evaluation_mode(model),
        torch.inference_mode(),
        Progress("evaluate", len(loader), enabled=progress) as bar,
    ):
        for batch in loader.batches(epoch=0):
            _refuse_bad(batch)
            with torch.autocast(device.type, AUTOCAST_DTYPES.get(precision), enabled=precision in AUTOCAST_DTYPES):
                outputs.append(model.evaluate_batch(_inputs_on(batch, device), forward))
            index.append(batch["index"])
            targets.append(cast("Rows", batch["targets"]) if "targets" in batch else torch.full_like(index[-1], -1))
            bar.advance()
    rows, truth, positions = _gather(outputs, targets, index)
    seconds = time.perf_counter() - started
    family = model.metrics()
    family.chosen = threshold
    family.update(rows, truth)
    return Evaluation(
        metrics=family.compute(),
        outputs=_plain(rows),
        targets=_plain(truth),
        index=positions.numpy(),
        seconds=seconds,
        images_per_second=len(positions) / seconds,
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


def _inputs_on(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images, views and padding on the device; the rest stays on the host."""
    values = dict[str, Any](batch)
    moved = {
        name: value.to(device, non_blocking=True)
        for name, value in values.items()
        if name in ("images", "padding") or name.startswith("view")
    }
    if "tiled" in batch:
        moved["tiled"] = [each.to(device) for each in batch["tiled"]]
    return cast("Batch", values | moved)


def _refuse_bad(batch: Batch) -> None:
    """An evaluation never leaves images out."""
    if bad := batch.get("bad"):
        index, reason = bad[0]
        raise UserError(f"cannot evaluate: image {index} is unreadable ({reason}); repair or remove it")


def _gather(outputs: list[Rows], targets: list[Rows], index: list[Tensor]) -> Results:
    """Every rank's rows on the CPU, sorted by index; an index that several ranks evaluated counts once."""
    own: Results | None = (_joined(outputs), _joined(targets), torch.cat(index).cpu()) if index else None
    shards = [own]
    if dist.is_available() and dist.is_initialized():
        shards = [None] * dist.get_world_size()
        dist.all_gather_object(shards, own)
    found = [shard for shard in shards if shard is not None]
    if not found:
        raise UserError("there is nothing to evaluate: the split has no images; choose another with --split")
    rows, truth, positions = zip(*found, strict=True)
    places = torch.cat(positions)
    keep = torch.from_numpy(np.unique(places.numpy(), return_index=True)[1])
    return _chosen(_joined(rows), keep), _chosen(_joined(truth), keep), places[keep]


def _joined(parts: Sequence[Rows]) -> Rows:
    """Tensors or lists, batch after batch, on the CPU."""
    if isinstance(parts[0], Tensor):
        return torch.cat(cast("list[Tensor]", list(parts))).cpu()
    return [row for part in parts for row in part]


def _chosen(rows: Rows, places: Tensor) -> Rows:
    return rows[places] if isinstance(rows, Tensor) else [rows[place] for place in places.tolist()]


def _plain(rows: Rows) -> NDArray[np.generic] | list[object]:
    return rows.numpy() if isinstance(rows, Tensor) else list(rows)
