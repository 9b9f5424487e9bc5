"""One process or many: the group under torchrun, and how a task's loss runs over the ranks.

Started by ``torchrun`` (or ``vitrail train --processes N``) every rank runs the same loop. Gradients are averaged by
DDP, or parameters sharded by FSDP2. A group needs a time limit: when a rank dies the others leave with an error
within ``timeout`` seconds, and the whole job is started again from the last state.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from vitrail.data.batch import Batch
from vitrail.distill import PART
from vitrail.machine import pick_device

T = TypeVar("T")


class RankLost(Exception):
    """Another process did not answer in time, or is dead."""


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

    @contextmanager
    def only_first_speaks(self) -> Iterator[None]:
        """Within, what the other ranks would tell the user is dropped, for it is the same; errors pass."""
        with nullcontext() if self.first else redirect_stderr(io.StringIO()):
            yield

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
    with nullcontext() if rank == 0 else redirect_stderr(io.StringIO()):
        chosen = pick_device(device)
    if size == 1:
        yield World(chosen)
        return
    limit = timedelta(seconds=timeout)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", timeout=limit, device_id=chosen)
    else:
        dist.init_process_group("gloo", timeout=limit)
    try:
        yield World(chosen, rank, size)
        dist.barrier()  # leave together: a peer that is gone first can abort the others
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RankLost("another process of this training is gone or stuck; the same command continues") from error
        raise
    finally:
        dist.destroy_process_group()


class Engine:
    """``engine(batch)`` is the task's loss; its backward shares gradients over the ranks."""

    def __init__(self, task: nn.Module, world: World, strategy: Literal["ddp", "fsdp"]) -> None:
        self.task = task
        self._loss: Callable[[Batch], dict[str, Tensor]] = task.loss  # type: ignore[assignment]
        if world.size > 1 and strategy == "ddp":
            self._loss = nn.parallel.DistributedDataParallel(_Loss(task))
        elif world.size > 1:
            shard(task, world)
            self._loss = task.loss  # type: ignore[assignment]  # its hooks gather the parameters

    @property
    def sharded(self) -> bool:
        """Whether each rank holds a part of the parameters only."""
        return isinstance(self.task, FSDPModule)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return self._loss(batch)

    @contextmanager
    def sharing(self, wanted: bool) -> Iterator[None]:
        """Within, do ranks share gradients on backward? Only the last piece of a batch needs it."""
        if self.sharded:
            self.task.set_requires_gradient_sync(wanted)  # type: ignore[operator]
        replicated = isinstance(self._loss, nn.parallel.DistributedDataParallel)
        with nullcontext() if wanted or not replicated else self._loss.no_sync():  # type: ignore[attr-defined]
            yield


class _Loss(nn.Module):
    """DDP hooks into forward; ours is the loss."""

    def __init__(self, task: nn.Module) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.loss(batch)  # type: ignore[operator]


def shard(task: nn.Module, world: World) -> None:
    """Shard the parameters in place with FSDP2, a block at a time. The optimizer must be built afterwards."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in getattr(getattr(task, "vit", None), "blocks", ()):
        fully_shard(block, mesh=mesh)
    if PART in dict(task.named_children()):
        fully_shard(task.get_submodule(PART), mesh=mesh)  # it runs when the task's own pass is over
    fully_shard(task, mesh=mesh)
    register_fsdp_forward_method(task, "loss")


@contextmanager
def whole(task: nn.Module) -> Iterator[nn.Module]:
    """The task with its parameters gathered, so that ranks may run different numbers of forward passes."""
    shards = [module for module in task.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield task
    finally:
        for module in shards:
            module.set_reshard_after_forward(module is not task, recurse=False)  # FSDP's default: backward begins there
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
