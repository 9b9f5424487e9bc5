"""A bounded part of the fuzzers, and whether they would notice."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import Mutant, Target, failure_of, mutants, run, shrink, try_all
from targets import NAMES, named

from vitrail.errors import UserError

COUNTS = {"images": 4000, "sources": 3000, "weights": 2600, "runs": 1000}
SECONDS = 25  # for each target in `make fuzz`

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_no_mutant_does_more_than_end_in_one_line(name: str) -> None:
    outcome = run(named(name), count=COUNTS[name], seconds=SECONDS)
    assert outcome.failures == []
    assert outcome.tried >= 100


@pytest.mark.parametrize("name", NAMES)
def test_sound_files_are_taken_and_a_few_mutants_are_no_harm(name: str) -> None:
    target = named(name)
    sound = [Mutant(base, ()) for base in range(len(target.bases))]
    few = [each for each, _ in zip(mutants(target, 1), range(30), strict=False)]
    outcome = try_all(target, sound + few)
    assert outcome.failures == []
    assert outcome.taken >= len(sound)


@pytest.mark.fuzz
def test_bytes_that_coverage_chooses_do_no_more_than_end_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    root = str(Path(__file__).parents[2])
    places = {"PYTHONPATH": os.pathsep.join([root, *(place for place in sys.path if place)])}
    command = [sys.executable, "-m", "tests.fuzz", "--atheris", "--minutes", "0.4"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr


def _raise(folder: Path) -> None:
    if b"bad" not in (folder / "a.txt").read_bytes():
        raise KeyError("a")


class _Lines(UserError):
    """One that is several lines, whatever its text is made."""

    def __str__(self) -> str:
        return "a\nb"


def _raise_lines() -> None:
    raise _Lines("a")


FAULTS = {
    "KeyError": _raise,
    "took .* MB": lambda folder: _fill(400_000_000),
    "took .* s": lambda folder: _spend(0.3),
    "wrote canary": lambda folder: (folder.parent / "canary").write_text("x"),
    "died": lambda folder: os.kill(os.getpid(), signal.SIGKILL),
    "several lines": lambda folder: _raise_lines(),
}


def _fill(num_bytes: int) -> None:
    """New memory, since an allocator may have kept some of what other tests gave back."""
    with mmap.mmap(-1, num_bytes) as block:
        block.write(b"x" * num_bytes)


def _spend(seconds: float) -> None:
    """Of the processor."""
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory through /proc")
@pytest.mark.parametrize("what", FAULTS)
def test_what_goes_wrong_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "took .* s":
        monkeypatch.setattr("harness.SECONDS", 0.2)
    target = Target("faulty", ({"a.txt": b"hello"},), FAULTS[what])
    reason = failure_of(target, Mutant(0, ()))
    assert reason is not None
    assert re.search(what, reason)


def test_a_failure_is_shrunk_to_the_change_that_causes_it() -> None:
    def use(folder: Path) -> None:
        if (folder / "a.txt").read_bytes() != b"one two three":
            raise KeyError

    target = Target("shrunk", ({"a.txt": b"one two three", "b.txt": b"four"},), use)
    found = next(each for each in mutants(target, 0) if len(each.changes) == 3 and failure_of(target, each))
    small = shrink(target, found)
    assert len(small.changes) < 3
    assert all(name == "a.txt" for name, _ in small.changes)


def test_the_same_seed_makes_the_same_mutants() -> None:
    target = named("images")
    first = [each.files(target) for each, _ in zip(mutants(target, 7), range(20), strict=False)]
    assert first == [each.files(target) for each, _ in zip(mutants(target, 7), range(20), strict=False)]
