from __future__ import annotations

import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import broken_task, digests, tiny_run, write_data

from vitrail import loading
from vitrail.checkpoints import native
from vitrail.errors import UserError
from vitrail.evaluation import evaluate
from vitrail.metrics.classification import Metrics
from vitrail.tasks.classification import Task
from vitrail.train import state
from vitrail.train.folder import RunFolder
from vitrail.train.loggers.csv import read
from vitrail.train.loop import Loop, fit
from vitrail.train.step import TrainStep

GENTLE = {"dropout": 0.0, "drop_path": 0.0}


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return native.load(folder / "weights" / f"{name}.safetensors").state


def position(folder: Path) -> dict[str, Any]:
    newest = max(path for path in (folder / "state").iterdir() if path.name.isdigit())
    found: dict[str, Any] = json.loads((newest / "state.json").read_text())["position"]
    return found


def test_a_run_learns_and_leaves_its_folder(bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, epochs=12, optimizer={"lr": 0.01}, model={"block": GENTLE}, task="auto")
    result = fit(run, tmp_path / "run")
    assert result.exit_code == 0
    assert result.best is not None
    assert result.best > 0.9
    folder = tmp_path / "run"
    expected = {
        "config.yaml",
        "command.txt",
        "env.json",
        "data.json",
        "metrics.csv",
        "summary.json",
        "weights",
        "state",
    }
    assert expected | {".lock"} == set(os.listdir(folder))
    assert set(os.listdir(folder / "weights")) == {"best.safetensors", "last.safetensors"}

    rows = read(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in rows] == list(range(6, 73, 6))
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    assert rows[-1]["val_top1"] > 0.9
    assert all(row["images_per_second"] > 0 and row["gradient_norm"] > 0 for row in rows)

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    best = max(rows, key=lambda row: row["val_top1"])
    assert summary["best"] == {"epoch": best["epoch"], "top1": best["val_top1"]}
    data = json.loads((folder / "data.json").read_text())
    assert data["counts"] == {"train": 48, "val": 24}
    assert data["classes"] == ["0", "1", "2"]
    environment = json.loads((folder / "env.json").read_text())
    assert environment["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert environment["threads"] == 1
    assert RunFolder(folder).run().task == "classification"

    meta = native.read_meta(folder / "weights" / "best.safetensors")
    assert meta["config"]["classes"] == ["0", "1", "2"]
    assert meta["metrics"]["top1"] == result.best
    assert meta["training"]["epoch"] == best["epoch"]


def test_the_best_weights_measure_as_they_were_measured(bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, epochs=4, optimizer={"lr": 0.01}, ema={"decay": 0.5})
    best = fit(run, tmp_path / "run").best
    from vitrail.data import open_data

    task = loading.load(tmp_path / "run", device="cpu").task
    measured = evaluate(task, open_data(run.data).eval_loader("val"), progress=False)
    assert measured.metrics["top1"] == best


def test_pieces_of_a_batch_are_the_batch(bands: Path, tmp_path: Path) -> None:
    found = []
    for pieces in (1, 2, 3, 8):  # 3 does not divide a batch of 8
        run = tiny_run(
            bands, epochs=2, accumulate=pieces, model={"block": GENTLE}, optimizer={"name": "sgd", "lr": 0.1}
        )
        fit(run, tmp_path / f"{pieces}")
        found.append(weights(tmp_path / f"{pieces}"))
    for other in found[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, found[0][name], rtol=0, atol=2e-6)


def test_extending_is_training_longer(bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, epochs=2, schedule={"name": "constant", "warmup_epochs": 0}, ema={"decay": 0.9})
    fit(dataclasses.replace(run, epochs=4), tmp_path / "straight")
    fit(run, tmp_path / "extended")
    fit(dataclasses.replace(run, epochs=4), tmp_path / "extended", extend=True)
    assert digests(tmp_path / "straight") == digests(tmp_path / "extended")
    keep = ("epoch", "train_loss", "val_loss", "lr")
    rows = [
        [{key: row[key] for key in keep} for row in read(tmp_path / n / "metrics.csv")]
        for n in ("straight", "extended")
    ]
    assert rows[0] == rows[1]
    with pytest.raises(UserError, match=r"complete with 4 epochs; .* --resume .*extended --epochs 8"):
        fit(dataclasses.replace(run, epochs=4), tmp_path / "extended", extend=True)


def test_another_run_under_the_same_name_is_refused(bands: Path, tmp_path: Path) -> None:
    run = tiny_run(bands, epochs=1)
    fit(run, tmp_path / "run")
    before = digests(tmp_path / "run")
    with pytest.raises(UserError, match=r"seed: 0, now 1\); choose another --name, or continue that one with --resume"):
        fit(dataclasses.replace(run, seed=1), tmp_path / "run")
    with pytest.raises(UserError, match="epochs: 1, now 2"):
        fit(dataclasses.replace(run, epochs=2), tmp_path / "run")
    with pytest.raises(UserError, match="complete with 1 epochs"):
        fit(run, tmp_path / "run")
    assert digests(tmp_path / "run") == before


def test_changed_data_is_refused(bands: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    run = tiny_run(data, epochs=1)
    fit(run, tmp_path / "run")
    with np.load(data / "train.npz") as old:
        images, labels = old["images"], old["labels"]
    np.savez(data / "train.npz", images=images, labels=labels[::-1])
    with pytest.raises(UserError, match="the data is not what"):
        fit(dataclasses.replace(run, epochs=2), tmp_path / "run", extend=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
@pytest.mark.parametrize("where", ["step", "evaluation"])
def test_signals_save_and_leave(
    number: int, code: int, where: str, bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(bands, epochs=2, ema={"decay": 0.9})
    fit(run, tmp_path / "straight")
    with monkeypatch.context() as patch:
        if where == "step":
            after = Task.after_step
            patch.setattr(
                Task,
                "after_step",
                lambda self, step, n: (step == 3 and os.kill(os.getpid(), number), after(self, step, n)),
            )
        else:
            metrics = Loop.evaluate
            patch.setattr(Loop, "evaluate", lambda self: (os.kill(os.getpid(), number), metrics(self))[1])
        handlers = signal.getsignal(number)
        result = fit(run, tmp_path / "run")
        assert signal.getsignal(number) is handlers
    assert result.exit_code == code
    # the step during which the signal came may be followed by one that saw it
    assert position(tmp_path / "run")["step"] == (5 if where == "step" else 6)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert fit(run, tmp_path / "run").exit_code == 0
    assert digests(tmp_path / "run") == digests(tmp_path / "straight")


@pytest.mark.parametrize("what", ["loss", "infinite", "gradient"])
@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])  # fused, and not
def test_steps_that_are_not_finite_change_nothing(
    what: str, optimizer: Any, bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    snapshots = []
    step = TrainStep.__call__

    def watched(self: TrainStep, *arguments: Any, **named: Any) -> Any:
        output = step(self, *arguments, **named)
        rule = self.state.optimizer
        moments = [value.clone() for p in self.model.parameters() for value in rule.state[p].values()]
        snapshots.append([p.detach().clone() for p in self.model.parameters()] + moments)
        return output

    monkeypatch.setattr(TrainStep, "__call__", watched)
    broken_task(monkeypatch, lambda call: what if call in (3, 4, 8) else None)
    run = tiny_run(bands, epochs=2, optimizer={"name": optimizer, "lr": 0.01})
    assert fit(run, tmp_path / "run").exit_code == 0
    same = [all(map(torch.equal, a, b)) for a, b in itertools.pairwise(snapshots)]
    assert [i + 1 for i, unchanged in enumerate(same) if unchanged] == [3, 4, 8]
    assert all(value.isfinite().all() for value in snapshots[-1])
    assert capsys.readouterr().err.count("the step was skipped") == 3
    assert all(math.isfinite(row["train_loss"]) for row in read(tmp_path / "run" / "metrics.csv"))


def test_three_in_a_row_stop_and_name_the_images(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Task.loss

    def blind(self: Task, batch: Any) -> Any:  # NaN wherever a bright image is
        result = loss(self, batch)
        bad = (batch["images"].mean(dim=(1, 2, 3)) > BRIGHT).any()
        return {"loss": torch.where(bad, torch.nan, result["loss"])}

    with np.load(bands / "train.npz") as file:
        bright = file["images"].mean(axis=(1, 2)) / 127.5 - 1
    BRIGHT = float(np.sort(bright)[-9])  # 8 of 48 images: in nearly every batch of 8
    expected = {f"train.npz[{i}]" for i in np.flatnonzero(bright > BRIGHT)}
    monkeypatch.setattr(Task, "loss", blind)
    with pytest.raises(UserError, match="3 steps in a row were not finite; caused by") as error:
        fit(tiny_run(bands, epochs=5), tmp_path / "run")
    named = str(error.value).split("caused by ")[1].split(":")[0].split(", ")
    assert named
    assert {name.rpartition("/")[2] for name in named} <= expected
    assert not (tmp_path / "run" / "summary.json").exists()


def test_divergence_names_no_image(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_task(monkeypatch, lambda call: "loss")
    with pytest.raises(UserError, match=r"no image of the batch is at fault alone: .* lower optimizer\.lr"):
        fit(tiny_run(bands), tmp_path / "run")
    assert not (tmp_path / "run" / "weights").exists()


def test_a_metric_that_is_not_finite_is_never_best(
    bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([math.nan, 0.5, math.inf, 0.25])
    measure = Metrics.compute
    monkeypatch.setattr(Metrics, "compute", lambda self: {**measure(self), "top1": next(values), "ece": math.nan})
    assert fit(tiny_run(bands, epochs=4), tmp_path / "run").best == 0.5
    assert native.read_meta(tmp_path / "run" / "weights" / "best.safetensors")["training"]["epoch"] == 2
    assert [row.get("val_top1") for row in read(tmp_path / "run" / "metrics.csv")] == [None, 0.5, None, 0.25]


def test_weights_that_are_not_finite_are_never_saved(
    bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = Task.after_step

    def poison(self: Task, step: int, num_steps: int) -> None:
        after(self, step, num_steps)
        if step == 7:
            with torch.no_grad():
                self.vit.norm.bias[0] = torch.nan

    monkeypatch.setattr(Task, "after_step", poison)
    with pytest.raises(UserError, match="not finite"):
        fit(tiny_run(bands, epochs=2), tmp_path / "run")
    for name in ("best", "last"):
        assert native.read_meta(tmp_path / "run" / "weights" / f"{name}.safetensors")["training"]["epoch"] == 1


def test_early_stopping_and_going_on(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    evaluated = Loop.evaluate
    monkeypatch.setattr(Loop, "evaluate", lambda self: evaluated(self) | {"top1": next(values)})
    run = tiny_run(bands, epochs=20, patience=2)
    result = fit(run, tmp_path / "run")
    assert (result.epochs, result.best) == (4, 0.7)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped early"
    with pytest.raises(StopIteration):  # it does go on
        fit(run, tmp_path / "run", extend=True)
    assert position(tmp_path / "run")["best"] == 0.9


def test_after_step_sees_every_step(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Task, "after_step", lambda self, step, num_steps: seen.append((step, num_steps)))
    fit(tiny_run(bands, epochs=2), tmp_path / "run")
    assert seen == [(step, 12) for step in range(12)]


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="typo"):
        fit(tiny_run(tmp_path / "typo"), tmp_path / "runs" / "run")
    assert os.listdir(tmp_path / "runs") == []


def test_two_processes_never_share_a_folder(bands: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = "import sys, time; from vitrail.train.folder import RunFolder\n"
    script += f"place = RunFolder({str(folder)!r}); place.claim(); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another process is training in"):
            fit(tiny_run(bands, epochs=1), folder)
        other.kill()
    assert fit(tiny_run(bands, epochs=1), folder).exit_code == 0


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
def test_the_number_of_workers_changes_nothing(bands: Path, tmp_path: Path) -> None:
    for workers in (0, 1, 2, 4):
        run = tiny_run(bands, epochs=1)
        loader = dataclasses.replace(run.data.loader, workers=workers)
        fit(dataclasses.replace(run, data=dataclasses.replace(run.data, loader=loader)), tmp_path / f"{workers}")
    found = [digests(tmp_path / f"{workers}") for workers in (0, 1, 2, 4)]
    assert found[1:] == found[:1] * 3


# PyTorch, told of the dead process while it counts free file descriptors, leaves the one it had just opened
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
def test_a_dead_loader_process_is_an_error_at_once(
    bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, killed = multiprocessing.active_children(), []

    def kill_worker(self: Task, step: int, num_steps: int) -> None:
        if step == 4:
            (worker,) = set(multiprocessing.active_children()).difference(earlier)
            os.kill(worker.pid or 0, signal.SIGKILL)
            killed.append(time.monotonic())

    monkeypatch.setattr(Task, "after_step", kill_worker)
    run = tiny_run(bands, epochs=10_000, save_steps=2)
    loader = dataclasses.replace(run.data.loader, workers=1)
    with pytest.raises(UserError, match="a loader process died"):
        fit(dataclasses.replace(run, data=dataclasses.replace(run.data, loader=loader)), tmp_path / "run")
    assert time.monotonic() - killed[0] < 10


def test_a_full_disk_keeps_the_previous_state(bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    run = tiny_run(bands, epochs=2)
    fit(run, tmp_path / "straight")
    saves = iter(range(100))
    save = state.save

    def second_save_fails(*arguments: Any) -> None:
        if next(saves) != 1:
            return save(*arguments)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            save(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr(state, "save", second_save_fails)
        with pytest.raises(UserError, match=r"cannot write .*state/.* \([\d,]+ bytes\): .*too large"):
            fit(run, tmp_path / "run")
    assert os.listdir(tmp_path / "run" / "state") == ["00000001"]
    assert fit(run, tmp_path / "run").exit_code == 0
    assert digests(tmp_path / "run") == digests(tmp_path / "straight")


def test_a_damaged_state_falls_back_to_the_one_before(bands: Path, tmp_path: Path, capsys: Any) -> None:
    run = tiny_run(bands, epochs=2)
    fit(run, tmp_path / "run")
    expected = digests(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    newest = tmp_path / "run" / "state" / "00000002" / "state.safetensors"
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    assert fit(run, tmp_path / "run").exit_code == 0
    error = capsys.readouterr().err
    assert "warning: " in error
    assert "state.safetensors is not what was written" in error
    assert "continuing" in error
    assert digests(tmp_path / "run") == expected
