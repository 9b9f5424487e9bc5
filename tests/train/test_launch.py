"""The watcher, over jobs of a few lines; and once the real thing, with a rank killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import digests, start_ranks, write_data

from vitrail.train import launch
from vitrail.train.folder import RunFolder


def job(folder: Path, body: str) -> list[str]:
    """A process that counts its starts in ``folder`` as ``n`` and knows its ``rank``."""
    script = (
        "import os, pathlib, signal, sys, time\n"
        f"folder = pathlib.Path({str(folder)!r}); rank = int(os.environ.get('RANK', 0))\n"
        "count = folder / f'count{rank}'; n = len(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text('x' * n)\n"
    )
    return [sys.executable, "-S", "-c", script + body]


def starts(folder: Path) -> int:
    return len((folder / "count0").read_text())


def watch(command: list[str], **options: Any) -> int:
    return launch.watch(command, **{"processes": 1, "restarts": 0, "is_complete": lambda: False, **options})


def test_success_is_not_repeated(tmp_path: Path) -> None:
    assert watch(job(tmp_path, ""), restarts=3) == 0
    assert starts(tmp_path) == 1


def test_a_crash_starts_all_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.5)
    # rank 1 is killed; rank 0 would wait for it for ever
    body = "if n < 3: os.kill(os.getpid(), 9) if rank else time.sleep(60)"
    assert watch(job(tmp_path, body), processes=2, restarts=2) == 0
    assert starts(tmp_path) == 3
    assert len((tmp_path / "count1").read_text()) == 3


def test_restarts_are_counted(tmp_path: Path) -> None:
    assert watch(job(tmp_path, "sys.exit(7)"), restarts=2) == 7
    assert starts(tmp_path) == 3
    assert watch(job(tmp_path, "os.kill(os.getpid(), 11)")) == 128 + 11


@pytest.mark.parametrize("code", [2, 143, 138, 130])
def test_what_was_meant_is_not_repeated(code: int, tmp_path: Path) -> None:
    assert watch(job(tmp_path, f"sys.exit({code})"), restarts=3) == code
    assert starts(tmp_path) == 1


def test_a_crash_after_completion_is_finished_once(tmp_path: Path) -> None:
    """Processes were seen to abort when their group is torn down: the mark of completion counts, not the code."""
    body = "sys.exit(0 if n > 1 else 134)"
    assert watch(job(tmp_path, body), is_complete=lambda: True) == 0
    assert starts(tmp_path) == 2
    (tmp_path / "count0").unlink()
    assert watch(job(tmp_path, "sys.exit(134)"), is_complete=lambda: True) == 134
    assert starts(tmp_path) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_every_process(number: int, tmp_path: Path) -> None:
    body = (
        f"signal.signal({number}, lambda *_: (folder / f'got{{rank}}').touch() or sys.exit(128 + {number}))\n"
        "(folder / f'ready{rank}').touch()\nwhile True: time.sleep(0.01)"
    )

    def send() -> None:
        while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    sender.start()
    assert watch(job(tmp_path, body), processes=2, restarts=3) == 128 + number
    sender.join()
    assert (tmp_path / "got0").exists()
    assert (tmp_path / "got1").exists()
    assert starts(tmp_path) == 1
    assert signal.getsignal(number) is before


def test_a_killed_rank_costs_at_most_an_interval(context: Any, tmp_path: Path) -> None:
    """``vitrail train --processes 2 --restarts 1``: a rank is killed, the job goes on, the result is the same."""
    data = write_data(tmp_path / "data")
    options = "--image-size 8 --channels 1 --batch-size 8 --device cpu --precision fp32 --no-report --workers 0"
    options += " --augment none --epochs 4 --processes 2 --restarts 1 --name run --set save_steps=5 --set timeout=20"
    model = [f"--set=model.{part}" for part in ["patch_size=4", "dim=16", "depth=1", "heads=2", "mlp_dim=32"]]
    command = [sys.executable, "-m", "vitrail", "train", str(data), *options.split(), *model]
    folder, log = tmp_path / "runs" / "run", tmp_path / "log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out, subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=out) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("state/[0-9]*")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        assert process.wait(200) == 0, log.read_text()
    assert "starting again from the last state" in log.read_text()
    assert "continuing runs/run at epoch" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("data: npz") == 2  # once a start, not once a process

    for rank in start_ranks(context, RunFolder(folder).run(), tmp_path / "straight"):
        rank.join(60)
    assert digests(folder) == digests(tmp_path / "straight")
