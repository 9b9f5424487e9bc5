"""kill -9 at any moment: the same command resumes, and ends in the state of a run that was never killed."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import digests, tiny_run, train_in_child

from vitrail.train import state
from vitrail.train.run import Run

RANDOM_KILLS, SAVE_KILLS = 20, 5
NUM_SAVES = 12  # after every second of 18 steps and after 3 epochs


@pytest.fixture(scope="module")
def run(bands: Path) -> Run:
    return tiny_run(bands, save_steps=2, ema={"decay": 0.9}, accumulate=2)


@pytest.fixture(scope="module")
def reference(run: Run, context: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float, int]:
    """The digests of the uninterrupted run, the seconds it took, and how many syncs and renames it did."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    _end(context, run, folder)  # warms up the server
    again = folder.with_name("again")
    started, calls = time.monotonic(), context.Value("i", 0)
    _end(context, run, again, calls)
    assert digests(folder) == digests(again)
    return digests(again), time.monotonic() - started, calls.value


def _end(context: Any, run: Run, folder: Path, calls: Any = None) -> None:
    child = context.Process(target=train_in_child, args=(run, folder, calls))
    child.start()
    child.join(60)
    assert child.exitcode == 0, folder.with_suffix(".log").read_text()


def _check_resumes(context: Any, run: Run, folder: Path, expected: dict[str, str]) -> None:
    if not (folder / "summary.json").exists():
        _end(context, run, folder)
    assert digests(folder) == expected
    assert not list(folder.rglob("*.tmp")), "litter"
    assert len(list((folder / "state").iterdir())) == 2


def test_killed_before_the_oldest_state_was_removed(tmp_path: Path) -> None:
    for name in ["00000008", "00000010", "00000009", ".00000011.tmp"]:
        (tmp_path / name).mkdir()
    state.clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"00000009", "00000010"}


@pytest.mark.fuzz
@pytest.mark.parametrize("trial", range(RANDOM_KILLS))
def test_random_moment(trial: int, run: Run, reference: Any, context: Any, tmp_path: Path) -> None:
    expected, seconds, _ = reference
    child = context.Process(target=train_in_child, args=(run, tmp_path / "run"))
    child.start()
    time.sleep(random.Random(trial).uniform(0, seconds))
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode in (-signal.SIGKILL, 0)
    _check_resumes(context, run, tmp_path / "run", expected)


def test_another_seed_is_another_state(run: Run, reference: Any, context: Any, tmp_path: Path) -> None:
    _end(context, dataclasses.replace(run, seed=1), tmp_path / "run")
    assert digests(tmp_path / "run").keys() == reference[0].keys()
    assert digests(tmp_path / "run")["state.safetensors"] != reference[0]["state.safetensors"]


def test_at_most_one_interval_is_lost(run: Run, reference: Any, context: Any, tmp_path: Path) -> None:
    folder, calls_per_save = tmp_path / "run", reference[2] // NUM_SAVES
    for save in range(1, 4):  # each session is killed when its second save begins
        child = context.Process(target=train_in_child, args=(run, folder, None, calls_per_save + 1))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        newest = max(path for path in (folder / "state").iterdir() if path.name.isdigit())
        assert json.loads((newest / "state.json").read_text())["position"]["step"] == 2 * save


@pytest.mark.fuzz
@pytest.mark.parametrize("trial", range(SAVE_KILLS))
def test_inside_a_save(trial: int, run: Run, reference: Any, context: Any, tmp_path: Path) -> None:
    expected, _, num_calls = reference
    moment = random.Random(trial).randint(1, num_calls)
    child = context.Process(target=train_in_child, args=(run, tmp_path / "run", None, moment))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    _check_resumes(context, run, tmp_path / "run", expected)
