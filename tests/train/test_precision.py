from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import digests, tiny_run
from torch import nn

from vitrail.checkpoints import native
from vitrail.errors import UserError
from vitrail.nn import checkpointing
from vitrail.nn.layer import Layer
from vitrail.train import precision
from vitrail.train.folder import RunFolder
from vitrail.train.loggers import csv
from vitrail.train.loop import fit
from vitrail.train.precision import guarded_step, resolve, scaler

CPU = torch.device("cpu")
STILL = {"dropout": 0.0, "drop_path": 0.0}


def linear_loss(task: nn.Module) -> torch.Tensor:
    loss: torch.Tensor = task(torch.ones(4, 8)).square().mean()
    return loss


def test_explicit_beats_auto() -> None:
    def unused(task: nn.Module) -> torch.Tensor:
        raise AssertionError("nothing is measured")

    for name in ("fp32", "bf16", "fp16"):
        assert resolve(name, nn.Linear(8, 8), unused, CPU) == name  # type: ignore[arg-type]


def test_auto_without_bf16_instructions_is_fp32(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: False)
    assert resolve("auto", nn.Linear(8, 8), linear_loss, CPU) == "fp32"
    assert "precision: fp32 (auto, cpu without bf16 matrix instructions)" in capsys.readouterr().err


@pytest.mark.parametrize(("fp32", "bf16", "chosen"), [(0.02, 0.01, "bf16"), (0.01, 0.02, "fp32")])
def test_auto_takes_what_measures_faster(
    fp32: float, bf16: float, chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The clock is ours: each pass takes as long as its precision says."""
    now = [0.0]
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])

    def loss(task: nn.Module) -> torch.Tensor:
        now[0] += bf16 if torch.is_autocast_enabled("cpu") else fp32
        return linear_loss(task)

    module = nn.Linear(8, 8)
    before = module.weight.detach().clone()
    assert resolve("auto", module, loss, CPU) == chosen
    assert f"{chosen} (auto, measured: fp32 {fp32 * 1e3:.1f} ms, bf16 {bf16 * 1e3:.1f} ms per step)" in (
        capsys.readouterr().err
    )
    assert torch.equal(module.weight, before)
    assert module.weight.grad is None


def test_the_choice_is_kept_when_a_run_resumes(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(bands, epochs=1, precision="auto")
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: False)
    fit(run, tmp_path / "run")
    assert RunFolder(tmp_path / "run").run().precision == "fp32"
    monkeypatch.setattr(precision, "resolve", lambda asked, *_: asked)
    fit(tiny_run(bands, epochs=2, precision="auto"), tmp_path / "run", extend=True)
    assert RunFolder(tmp_path / "run").run().precision == "fp32"


def test_measuring_leaves_no_trace(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(precision, "_step_seconds", measure := Slow(precision._step_seconds))
    fit(tiny_run(bands, epochs=1, precision="auto"), tmp_path / "auto")
    fit(tiny_run(bands, epochs=1, precision="fp32"), tmp_path / "explicit")
    assert measure.called
    assert digests(tmp_path / "auto") == digests(tmp_path / "explicit")


class Slow:
    """Measures truly, then says that bf16 is slower."""

    def __init__(self, function: Any) -> None:
        self.function, self.called = function, False

    def __call__(self, *arguments: Any) -> list[float]:
        assert all(seconds > 0 for seconds in self.function(*arguments))
        self.called = True
        return [1.0, 2.0]


def test_bf16_trains_fp32_weights(bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, epochs=3, precision="bf16", optimizer={"lr": 0.01}, model={"block": STILL})
    fit(run, tmp_path / "run")
    losses = [row["train_loss"] for row in csv.read(tmp_path / "run" / "metrics.csv")]
    assert losses[-1] < 0.8 * losses[0]
    state = native.load(tmp_path / "run" / "weights" / "last.safetensors").state
    assert {value.dtype for value in state.values()} == {torch.float32}
    fit(dataclasses.replace(run, precision="fp32"), tmp_path / "fp32")
    assert digests(tmp_path / "fp32") != digests(tmp_path / "run")


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU, not cpu"):
        scaler("fp16", CPU)
    assert scaler("bf16", CPU) is None


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("broken", ["loss", "gradient", "nothing"])
def test_a_step_happens_only_if_all_is_finite(fused: bool, broken: str) -> None:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), fused=fused, lr=0.1)
    before = [p.detach().clone() for p in module.parameters()]
    loss = module(torch.randn(5, 3)).square().mean()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()
    if broken == "gradient":
        assert module.bias.grad is not None
        module.bias.grad[1] = torch.inf
    found = guarded_step(optimizer, None, loss * (torch.nan if broken == "loss" else 1.0), clip=1.0)
    moved = [not torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True)]
    assert all(moved) if broken == "nothing" else not any(moved)
    assert found.item() == pytest.approx(norm.item()) if broken == "nothing" else not math.isfinite(found)
    assert module.weight.grad is None


def test_gradients_are_clipped_by_their_norm() -> None:
    module = nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    before = module.weight.detach().clone()
    (module(torch.randn(5, 3)).square().mean() * 1000).backward()
    norm = guarded_step(optimizer, None, torch.tensor(1.0), clip=0.5)
    assert norm > 10
    assert (module.weight - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_each_gradient_may_be_clipped_by_itself_as_in_dino() -> None:
    """Its utils.clip_gradients: p.grad *= clip / (norm + 1e-6) wherever that is below 1."""
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    (module(torch.randn(5, 3)) - 3).square().mean().mul(4).backward()
    norms = [float(p.grad.norm()) for p in module.parameters()]
    clip = sorted(norms)[len(norms) // 2]  # some are longer, some shorter
    expected = []
    for p in module.parameters():
        factor = clip / (p.grad.norm() + 1e-6)
        expected.append(p.detach() - (p.grad * factor if factor < 1 else p.grad))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    norm = guarded_step(optimizer, None, torch.tensor(1.0), clip, clip_each=True)
    assert float(norm) == pytest.approx(math.hypot(*norms), rel=1e-5)
    for found, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.filterwarnings("ignore")
def test_compiling_changes_speed_alone(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tracing that every backend shares; generating C++ would take a minute."""
    compiled_layers = []

    def trace(self: nn.Module, **_: Any) -> None:
        compiled_layers.append(self)
        nn.Module.compile(self, backend="aot_eager")

    monkeypatch.setattr(Layer, "compile", trace)
    still = {"block": STILL}
    rule = {"name": "sgd", "lr": 0.1}
    for name, wanted in (("eager", False), ("compiled", True)):
        fit(tiny_run(bands, epochs=1, compile=wanted, model=still, optimizer=rule, ema={}), tmp_path / name)
    assert len(compiled_layers) == 2
    eager, compiled = (native.load(tmp_path / n / "weights" / "last.safetensors").state for n in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=0, atol=1e-5)


def test_checkpointing_changes_memory_alone(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout; and a run may go on with it that began without."""
    recomputed = []
    checkpoint = checkpointing.checkpoint
    monkeypatch.setattr(checkpointing, "checkpoint", lambda *a, **k: recomputed.append(1) or checkpoint(*a, **k))
    for name, wanted in (("plain", False), ("saved", True)):
        fit(tiny_run(bands, epochs=1, activation_checkpointing=wanted, ema={}), tmp_path / name)
        assert bool(recomputed) == wanted
    assert digests(tmp_path / "plain") == digests(tmp_path / "saved")
    fit(tiny_run(bands, epochs=2, activation_checkpointing=True, ema={}), tmp_path / "plain", extend=True)
