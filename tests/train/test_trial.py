"""What is measured before a training, and the plan that is printed from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_run
from torch import Tensor, nn

from vitrail.data import open_data
from vitrail.train import trial
from vitrail.train.distributed import World
from vitrail.train.loop import fit
from vitrail.train.opening import build_task
from vitrail.train.trial import few_images, measure

CPU = World(torch.device("cpu"))


class Squares(nn.Module):
    """A loss that keeps its input and its product for the backward pass, and changes a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3, bias=False)
        self.register_buffer("count", torch.zeros(()))

    def loss(self, batch: Any) -> dict[str, Tensor]:
        self.count += 1
        noise = torch.rand(()) * 0
        return {"loss": (batch["images"] @ self.linear.weight.T).square().sum() + noise}


def test_bytes_of_an_image_are_those_that_the_backward_pass_needs() -> None:
    """The images (5 numbers), and their products (3), 4 bytes each; no parameters."""
    batch: Any = {"images": torch.randn(6, 5), "keys": torch.arange(6)}
    assert measure(Squares(), batch, "fp32", CPU).num_bytes == (5 + 3) * 4  # type: ignore[arg-type]


def test_measuring_changes_nothing() -> None:
    model, batch = Squares(), {"images": torch.randn(2, 5), "keys": torch.arange(2)}
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    measure(model, batch, "fp32", CPU)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(()), expected)
    assert model.linear.weight.grad is None
    assert float(model.count) == 0


def test_seconds_are_those_of_the_faster_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 2.0, 3.0])
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(now))
    batch: Any = {"images": torch.randn(4, 5), "keys": torch.arange(4)}
    assert measure(Squares(), batch, "fp32", CPU).seconds == 0.25  # type: ignore[arg-type]


def test_a_large_model_is_tried_on_fewer_images(bands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(bands)
    data = open_data(run.data)
    task = build_task(run, data)
    loader = data.train_loader(seed=0)
    assert len(few_images(loader, task, CPU.device, 1)["keys"]) == 8
    assert len(few_images(loader, task, CPU.device, 4)["keys"]) == 2
    monkeypatch.setattr(trial, "OPERATIONS", 3 * trial.operations(task))
    assert len(few_images(loader, task, CPU.device, 1)["keys"]) <= 3
    monkeypatch.setattr(trial, "OPERATIONS", 0)
    assert len(few_images(loader, task, CPU.device, 1)["keys"]) == 1


def test_a_plan_is_printed_before_the_first_step(bands: Path, tmp_path: Path, capsys: Any) -> None:
    changes: dict[str, Any] = {"ema": {"decay": 0.9}, "freeze": ("vit.embed",), "optimizer": {"lr": 0.01}}
    started = time.monotonic()
    fit(tiny_run(bands, epochs=2, **changes), tmp_path / "run")
    assert time.monotonic() - started < 60
    before, _, _ = capsys.readouterr().err.partition("epoch 1/2")
    assert "plan: classification, ViT of 2 layers, 16 wide, 2 heads, 8 × 8 pixels in patches of 4 × 4" in before
    assert "parameters learn, from scratch, frozen: vit.embed" in before
    assert "plan: 2 epochs of 6 steps of 8 images; 48 train, 24 val images" in before
    assert "adamw, peak rate 0.01, weight decay 0.05, cosine after a warmup of 5%, weights averaged with 0.9" in before
    assert "plan: augmentation none" in before
    assert "plan: fp32 on cpu, about 1 MiB and " in before
    assert f"plan: results in {tmp_path / 'run'}" in before
    fit(tiny_run(bands, epochs=3, **changes), tmp_path / "run", extend=True)
    assert "plan:" not in capsys.readouterr().err
