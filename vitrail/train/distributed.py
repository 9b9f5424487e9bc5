"""The process group under torchrun, and the loss over its ranks.

Started by ``torchrun`` (or ``vitrail train --processes N``) every rank runs the same loop. Gradients are averaged by
DDP, or parameters are sharded by FSDP2. A group needs a time limit: when a rank dies the others exit with an error
within ``timeout`` seconds, and the entire job is started again from the last state.
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
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from vitrail.data.batch import Batch
from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.machine import pick_device
from vitrail.trainable import Losses, Trainable, layers_of

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class RankLost(Exception):
    """Another process timed out, or is dead."""


@dataclass(frozen=True)
class World:
    """The rank of this process, and the number of processes."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes files and prints."""
        return self.rank == 0

    @contextmanager
    def only_main_prints(self) -> Iterator[None]:
        """Within, messages of the other ranks are dropped, since they are the same; exceptions are not."""
        with nullcontext() if self.is_main else redirect_stderr(io.StringIO()):
            yield

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks, on all ranks; in place."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def broadcast(self, value: T) -> T:
        """The main rank's value, on all ranks."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: str, timeout: float) -> Iterator[World]:
    """Join the group that torchrun describes in the environment; without one, the world has one process.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        timeout: seconds until a collective that does not complete is an error.
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
        dist.barrier()  # leave together: a peer that exits first can abort the others
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RankLost("another process of this training is gone or stuck; the same command continues") from error
        raise
    finally:
        dist.destroy_process_group()


class Parallel:
    """``parallel(batch)`` is the model's loss; its backward averages gradients over the ranks."""

    def __init__(
        self, model: Trainable, world: World, strategy: Literal["ddp", "fsdp"], precision: str = "fp32"
    ) -> None:
        self.model = model
        self._loss: Callable[[Batch], Losses] = model.loss
        if world.size > 1 and strategy == "ddp":
            self._loss = nn.parallel.DistributedDataParallel(
                _Loss(model), broadcast_buffers=_has_running_statistics(model), gradient_as_bucket_view=True
            )
        elif world.size > 1:
            shard(model, world, precision)
            self._loss = model.loss  # its hooks gather the parameters

    @property
    def sharded(self) -> bool:
        """Whether each rank holds only a part of the parameters."""
        return isinstance(self.model, FSDPModule)

    def __call__(self, batch: Batch) -> Losses:
        return self._loss(batch)

    @contextmanager
    def gradient_sync(self, enabled: bool) -> Iterator[None]:
        """Within, backward averages gradients only if ``enabled``: of a batch in pieces, the last one needs it."""
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(enabled)
        replicated = self._loss if isinstance(self._loss, nn.parallel.DistributedDataParallel) else None
        with nullcontext() if enabled or replicated is None else replicated.no_sync():
            yield


class _Loss(nn.Module):
    """The loss as a forward pass, which DDP hooks into."""

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Losses:
        return self.model.loss(batch)


def _has_running_statistics(model: nn.Module) -> bool:
    """Whether each rank has buffers of its own, of which the main rank's count: those of batch normalisation. All other
    buffers change alike on all ranks."""
    return any(isinstance(module, nn.modules.batchnorm._NormBase) for module in model.modules())


def shard(model: Trainable, world: World, precision: str = "fp32") -> None:
    """Shard the parameters in place with FSDP2, each layer of an encoder or decoder apart. The optimizer must be built
    afterwards.

    On a GPU layers gather their parameters in the 16 bits of autocast, which computes with those anyway, and sum
    gradients in float32. What is outside of layers stays in float32, such as boxes and prototypes.
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(world.device.type, (world.size,))
    dtype = AUTOCAST_DTYPES.get(precision) if world.device.type == "cuda" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    module = type(model).__module__
    fully_shard(model, mesh=mesh)
    type(model).__module__ = module  # FSDP's subclass; a trainable is named after its module
    register_fsdp_forward_method(model, "loss")


@contextmanager
def unsharded(model: M) -> Iterator[M]:
    """Within, the model's parameters are gathered, so that ranks may run different numbers of forward passes."""
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield model
    finally:
        for module in shards:  # FSDP's default: the root keeps its parameters for backward
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()


def gather(tensor: Tensor) -> Tensor:
    """A full copy on the CPU of a tensor that may be sharded. All ranks must call it."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().to("cpu", copy=True)


def placed_like(full: Tensor, like: Tensor) -> Tensor:
    """``full`` on the device of ``like``, and sharded as it is."""
    if isinstance(like, DTensor):
        return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return full.to(like.device)
