from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import tiny_run

from vitrail.errors import UserError
from vitrail.train.loggers import csv, open_loggers
from vitrail.train.loop import fit


def test_csv_goes_on_where_the_run_does(tmp_path: Path) -> None:
    logger = csv.Logger(tmp_path, 0)
    for epoch in (1, 2, 3):
        logger.log({"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch})
    resumed = csv.Logger(tmp_path, 2)
    resumed.log({"epoch": 3, "step": 30, "train_loss": 0.1, "val_top1": 0.5})
    assert csv.read(tmp_path / "metrics.csv") == [
        {"epoch": 1, "step": 10, "train_loss": 1.0},
        {"epoch": 2, "step": 20, "train_loss": 0.5},
        {"epoch": 3, "step": 30, "train_loss": 0.1, "val_top1": 0.5},
    ]
    assert (tmp_path / "metrics.csv").read_text().startswith("epoch,step,train_loss,val_top1\n1,10,1.0,\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_the_rows(bands: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tiny_run(bands, epochs=2, loggers=("tensorboard",)), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = csv.read(tmp_path / "run" / "metrics.csv")
    written = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert written == [(row["epoch"], pytest.approx(row["train_loss"])) for row in rows]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_services_get_one_run_for_each_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    wandb_run = SimpleNamespace(log=lambda row, step: calls.append((step, row)), finish=lambda: calls.append("end"))
    fakes = {
        "wandb": SimpleNamespace(
            util=SimpleNamespace(generate_id=lambda: "new"),
            init=lambda **options: calls.append(("begin", options["id"])) or wandb_run,
        ),
        "mlflow": SimpleNamespace(
            start_run=lambda run_id, run_name: (
                calls.append(("begin", run_id or "new"))
                or SimpleNamespace(info=SimpleNamespace(run_id=run_id or "new"))
            ),
            log_metrics=lambda row, step: calls.append((step, row)),
            end_run=lambda: calls.append("end"),
        ),
    }
    monkeypatch.setitem(sys.modules, name, fakes[name])
    for epoch in (1, 2):
        _, logger = open_loggers([name], tmp_path, epoch - 1)
        logger.log({"epoch": epoch, "train_loss": 0.5})
        logger.close()
    assert calls == [
        ("begin", "new"), (1, {"epoch": 1, "train_loss": 0.5}), "end",
        ("begin", "new"), (2, {"epoch": 2, "train_loss": 0.5}), "end",
    ]  # fmt: skip
    assert (tmp_path / f"{name}.id").read_text() == "new\n"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_one_line_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(UserError, match=rf"pip install 'vitrail\[{name}\]'"):
        open_loggers([name], tmp_path, 0)


def test_an_unknown_logger_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown logger 'tensorbord'; did you mean 'tensorboard'"):
        open_loggers(["tensorbord"], tmp_path, 0)
