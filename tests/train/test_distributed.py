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
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from vitrail.checkpoints import native
from vitrail.pretrain import mae
from vitrail.tasks.classification import Config, Task
from vitrail.train import distributed
from vitrail.train.distributed import Parallel, World, gather, shard, unsharded
from vitrail.train.run import Run
from vitrail.trainable import layers_of
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


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"strategy": "fsdp", "accumulate": 2}])
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


def _tiny_mae() -> mae.Task:
    torch.manual_seed(0)
    model = ViTConfig(image_size=16, patch_size=4, channels=1, dim=16, depth=2, heads=2, mlp_dim=32)
    sizes = {"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 2, "decoder_mlp_dim": 32}
    return mae.Task(mae.Config(model=model, **sizes))


def _sharded_step(rank: int, batch: dict[str, torch.Tensor]) -> Any:
    task = _tiny_mae()
    parallel = Parallel(task, World(torch.device("cpu"), rank, 2), "fsdp")
    assert all(isinstance(layer, FSDPModule) for layer in (*task.vit.blocks, *task.decoder.blocks))
    loss = parallel({name: rows[rank::2] for name, rows in batch.items()})["loss"]
    whole = [name for name, parameter in task.named_parameters() if not isinstance(parameter, DTensor)]
    loss.backward()
    return loss.item(), whole, {n: gather(p.grad) for n, p in task.named_parameters() if p.grad is not None}


def test_the_layers_of_a_decoder_are_sharded_apart() -> None:
    batch = {"images": torch.randn(4, 1, 16, 16), "keys": torch.arange(4)}
    task = _tiny_mae()
    loss = task.loss(batch)["loss"]
    loss.backward()
    ranks = on_two_ranks(_sharded_step, batch)
    assert sum(found for found, *_ in ranks) / 2 == pytest.approx(loss.item(), rel=1e-5)
    for _, whole, gradients in ranks:
        assert not [name for name in whole if "blocks" in name]
        for name, parameter in task.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_on_a_gpu_layers_gather_sixteen_bits_and_sum_gradients_in_thirty_two(monkeypatch: pytest.MonkeyPatch) -> None:
    policies: dict[nn.Module, Any] = {}
    monkeypatch.setattr(
        distributed, "fully_shard", lambda module, mesh, mp_policy=None: policies.update({module: mp_policy})
    )
    monkeypatch.setattr(distributed, "register_fsdp_forward_method", lambda *_: None)
    monkeypatch.setattr("torch.distributed.device_mesh.init_device_mesh", lambda *_: None)
    task = _tiny_mae()
    for device, precision, dtype in (("cuda", "bf16", torch.bfloat16), ("cuda", "fp32", None), ("cpu", "bf16", None)):
        policies.clear()
        shard(task, World(torch.device(device), 0, 2), precision)
        assert policies.pop(task) is None
        assert set(policies) == set(layers_of(task))
        found = {(policy.param_dtype, policy.reduce_dtype, policy.cast_forward_inputs) for policy in policies.values()}
        assert found == {(dtype, torch.float32, False)}


class _Standardised(Task):
    """A third party's task whose buffers differ from rank to rank."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.running = nn.BatchNorm1d(1, affine=False)

    def loss(self, batch: Any) -> Any:
        return super().loss(batch) | {"mean": self.running(batch["images"].mean(dim=(2, 3))).mean()}


def _replicated(rank: int) -> Any:
    model = ViTConfig(image_size=8, patch_size=4, channels=1, dim=16, depth=2, heads=2, mlp_dim=32)
    found = []
    for kind in (Task, _Standardised):
        task = kind(Config(model=model, classes=("ant", "bee", "cat"))).train()
        parallel = Parallel(task, World(torch.device("cpu"), rank, 2), "ddp")
        images = torch.full((4, 1, 8, 8), float(rank)) + torch.randn(4, 1, 8, 8)
        for _ in range(2):
            parallel({"images": images, "targets": torch.tensor([0, 1, 2, 0])})["loss"].backward()
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        buckets = len({grad.untyped_storage().data_ptr() for grad in grads})
        found.append((buckets < len(grads), parallel._loss.broadcast_buffers))
    running = task.running.running_mean.clone()
    parallel({"images": images, "targets": torch.tensor([0, 1, 2, 0])})
    return found, running, task.running.running_mean - 0.1 * images.mean()


def test_gradients_lie_in_their_buckets_and_only_running_statistics_are_sent() -> None:
    (first, own, _), (second, other, sent) = on_two_ranks(_replicated)
    assert first == second == [(True, False), (True, True)]
    assert not torch.allclose(own, other)
    torch.testing.assert_close(sent, 0.9 * own)  # before its own batch, the main rank's statistics
