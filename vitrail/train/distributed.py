"""One process or many: the group under torchrun, and how a task's loss runs over the ranks.

Started by ``torchrun`` (or ``vitrail train --processes N``) every rank runs the same loop. Gradients are averaged by
DDP, or parameters sharded by FSDP2. A group needs a time limit: when a rank dies the others leave with an error
within ``timeout`` seconds, and the whole job is started again from the last state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from vitrail.console import note
from vitrail.errors import UserError

T = TypeVar("T")
Batch = dict[str, Any]


@dataclass(frozen=True)
class World:
    """This process among all."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks, on all ranks."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def agree(self, value: T) -> T:
        """The first rank's value, on all ranks."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: str, timeout: float) -> Iterator[World]:
    """Join the group that torchrun describes in the environment, or be alone.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        timeout: seconds after which a collective without an answer is an error.
    """
    rank, size, local = (int(os.environ.get(key, default)) for key, default in
                         (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))  # fmt: skip
    chosen = choose_device(device, local if size > 1 else None)
    if size == 1:
        yield World(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, timeout=timedelta(seconds=timeout), device_id=chosen if chosen.type == "cuda" else None
    )
    try:
        yield World(chosen, rank, size)
        dist.barrier()  # leave together: a peer that is gone first can abort the others
    finally:
        dist.destroy_process_group()


def choose_device(device: str, local_rank: int | None = None) -> torch.device:
    """The device to use; ``auto`` takes a GPU if there is one and says so."""
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = found.type if found is not None else "cpu"
        note(f"device: {device} (auto)")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; choose auto, cpu, cuda or mps") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} is not available on this machine; choose cpu or auto")
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", local_rank or 0)
    return chosen


class Engine:
    """``engine(batch)`` is the task's loss, with gradients shared over the ranks on backward."""

    def __init__(self, task: nn.Module, world: World, strategy: Literal["ddp", "fsdp"]) -> None:
        self.task, self.strategy = task, strategy if world.size > 1 else None
        self._ddp: nn.parallel.DistributedDataParallel | None = None
        if self.strategy == "ddp":
            ids = [world.device.index] if world.device.type == "cuda" else None
            self._ddp = nn.parallel.DistributedDataParallel(_Loss(task), device_ids=ids, broadcast_buffers=False)
        elif self.strategy == "fsdp":
            shard(task, world)

    def backward(self, batch: Batch, *, last: bool, context: Any, scale: Any) -> dict[str, Tensor]:
        """Loss and gradients of one piece of a batch; ranks share gradients with the ``last`` piece."""
        if isinstance(self.task, FSDPModule):
            self.task.set_requires_gradient_sync(last)
        with self._ddp.no_sync() if self._ddp is not None and not last else nullcontext():
            with context:
                losses: dict[str, Tensor] = (self._ddp or self.task.loss)(batch)  # type: ignore[operator]
            scale(losses["loss"]).backward()
        return losses


class _Loss(nn.Module):
    """DDP hooks into forward; ours is the loss."""

    def __init__(self, task: nn.Module) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.loss(batch)  # type: ignore[operator, no-any-return]


def shard(task: nn.Module, world: World) -> None:
    """Shard the parameters in place with FSDP2, a block at a time. The optimizer must be built afterwards."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in getattr(getattr(task, "vit", None), "blocks", ()):
        fully_shard(block, mesh=mesh)
    fully_shard(task, mesh=mesh)
    register_fsdp_forward_method(task, "loss")


@contextmanager
def whole(task: nn.Module) -> Iterator[nn.Module]:
    """The task with its parameters gathered, so that ranks may run different numbers of forward passes."""
    shards = [module for module in task.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False)
        module.unshard()
    try:
        yield task
    finally:
        for module in shards:
            module.set_reshard_after_forward(True)
            module.reshard()


def gather(tensor: Tensor) -> Tensor:
    """A whole copy on the CPU of a tensor that may be sharded. All ranks must call it."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().to("cpu", copy=True)


def placed_like(full: Tensor, like: Tensor) -> Tensor:
    """``full`` on the device of ``like``, and sharded as it is."""
    if isinstance(like, DTensor):
        return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return full.to(like.device)
