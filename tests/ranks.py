"""Two gloo processes that compute the same thing, for tests of what crosses ranks. Importable by child processes."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def on_two_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(rank, *arguments)`` returns in each of two processes of a group."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "torch._dynamo", "vitrail.vit"])
    with tempfile.TemporaryDirectory() as folder:
        torch.save(arguments, Path(folder, "arguments"))  # handed over directly, the ranks would share their memory
        ranks = [context.Process(target=_rank, args=(rank, folder, function)) for rank in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(200)
            rank.kill()
        assert [rank.exitcode for rank in ranks] == [0, 0]
        return [torch.load(Path(folder, str(rank)), weights_only=False) for rank in range(2)]


def share(value: Any, rank: int) -> Any:
    """Every second row of a tensor, or of each in a dict: this rank's, as the sampler deals them."""
    return {name: rows[rank::2] for name, rows in value.items()} if isinstance(value, dict) else value[rank::2]


def _rank(rank: int, folder: str, function: Callable[..., Any]) -> None:
    torch.set_num_threads(1)
    arguments = torch.load(Path(folder, "arguments"), weights_only=False)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        torch.save(function(rank, *arguments), Path(folder, str(rank)))
        dist.barrier()
    finally:
        dist.destroy_process_group()
