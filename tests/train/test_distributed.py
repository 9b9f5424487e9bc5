"""Two gloo processes: the same batches, the same result as one process; a dead rank ends all."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_two_ranks
from tiny import digests, start_ranks, tiny_run, train_in_child
from torch.distributed.tensor import DTensor

from vitrail.checkpoints import native
from vitrail.tasks.classification import Config, Task
from vitrail.train.distributed import World, shard, unsharded
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

TOLERANCE = 2e-6  # on weights of order 1 after 18 steps


@pytest.fixture(scope="module")
def run(bands: Path) -> Run:
    still = {"dropout": 0.0, "drop_path": 0.0}  # each rank draws its own dropout
    return tiny_run(
        bands,
        model={"block": still},
        # Not Adam: it blows the rounding noise of a gradient that is zero (the key biases') up to full steps.
        optimizer={"name": "sgd", "lr": 0.1},
        ema={"decay": 0.9},
        timeout=20,
        schedule={"name": "constant"},
    )


@pytest.fixture(scope="module")
def alone(run: Run, context: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("alone") / "run"
    child = context.Process(target=train_in_child, args=(run, folder))
    child.start()
    child.join(60)
    assert child.exitcode == 0, folder.with_suffix(".log").read_text()
    return native.load(folder / "weights" / "last.safetensors").state


def _train(context: Any, run: Run, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    for rank in start_ranks(context, run, folder, **options):
        rank.join(60)
    log = folder.with_suffix(".log").read_text()
    assert (folder / "summary.json").exists(), log  # the mark of completion, on disk before the group is torn down
    return native.load(folder / "weights" / "last.safetensors").state


def _changed(run: Run, **changes: Any) -> Run:
    from dataclasses import replace

    return replace(run, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"strategy": "fsdp"}, {"accumulate": 2}, {"strategy": "fsdp", "accumulate": 2}]
)
def test_two_processes_are_one(changes: Any, run: Run, alone: Any, context: Any, tmp_path: Path) -> None:
    both = _train(context, _changed(run, **changes), tmp_path / "run")
    assert native.read_meta(tmp_path / "run" / "weights" / "last.safetensors")["task"] == "classification"
    assert both.keys() == alone.keys()
    for name, value in both.items():
        torch.testing.assert_close(value, alone[name], rtol=0, atol=TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")


def test_two_processes_that_shard_clip_each_gradient_as_one(run: Run, context: Any, tmp_path: Path) -> None:
    run = _changed(run, clip=0.05, clip_each=True, epochs=1)
    child = context.Process(target=train_in_child, args=(run, tmp_path / "alone"))
    child.start()
    both = _train(context, _changed(run, strategy="fsdp"), tmp_path / "both")
    child.join(60)
    alone = native.load(tmp_path / "alone" / "weights" / "last.safetensors").state
    for name, value in both.items():
        torch.testing.assert_close(value, alone[name], rtol=0, atol=TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_resuming_two_processes_changes_nothing(strategy: Any, run: Run, context: Any, tmp_path: Path) -> None:
    run = _changed(run, strategy=strategy, epochs=2, optimizer={"name": "adamw"})
    _train(context, run, tmp_path / "straight")
    _train(context, _changed(run, epochs=1), tmp_path / "resumed")
    _train(context, run, tmp_path / "resumed", extend=True)
    assert digests(tmp_path / "straight") == digests(tmp_path / "resumed")


def test_a_dead_rank_ends_all(run: Run, context: Any, tmp_path: Path) -> None:
    ranks = start_ranks(context, _changed(run, epochs=1000, timeout=5), tmp_path / "run")
    state = tmp_path / "run" / "state"
    deadline = time.monotonic() + 60
    while not (state.is_dir() and list(state.glob("[0-9]*"))):
        assert time.monotonic() < deadline, (tmp_path / "run.log").read_text()
        time.sleep(0.05)
    os.kill(ranks[1].pid, signal.SIGKILL)
    killed = time.monotonic()
    ranks[0].join(60)
    assert time.monotonic() - killed < 5 + 10
    assert ranks[0].exitcode not in (0, None)
    assert "RankLost: another process of this training is gone" in (tmp_path / "run.log").read_text()
    assert not (tmp_path / "run" / "summary.json").exists()


def _left_whole(rank: int) -> list[list[str]]:
    """The parameters that a forward pass leaves whole for its backward, before and after an evaluation."""
    model = ViTConfig(image_size=8, patch_size=4, channels=1, dim=16, depth=2, heads=2, mlp_dim=32)
    task = Task(Config(model=model, classes=("ant", "bee", "cat")))
    shard(task, World(torch.device("cpu"), rank, 2))
    images = torch.randn(2, 1, 8, 8)
    found = []
    for _ in range(2):
        outputs = task(images)
        found.append([name for name, parameter in task.named_parameters() if not isinstance(parameter, DTensor)])
        outputs.square().sum().backward()
        with unsharded(task), torch.no_grad():
            task(images)
            assert not any(isinstance(parameter, DTensor) for parameter in task.parameters())
        assert all(isinstance(parameter, DTensor) for parameter in task.parameters())
    return found


def test_an_evaluation_leaves_the_sharding_as_it_was() -> None:
    """FSDP frees a block after its forward pass, and keeps what is outside of them for backward, which begins there."""
    for before, after in on_two_ranks(_left_whole):
        assert "head.output.weight" in before
        assert not [name for name in before if ".blocks." in name]
        assert after == before
