"""Mutants of sound files, used one after another in a child process; what goes wrong is shrunk and stored."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from edits import edits_for, flip

from vitrail.errors import UserError

SECONDS, MEGABYTES = 2.0, 300  # of the processor, and above what the process had
WAIT = 30  # seconds of the clock after which a child is killed
FOUND = Path(__file__).parent / "found"
Files = Mapping[str, bytes]
Change = tuple[str, int]
"""(the name of a file, the seed of its edit)"""


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        bases: sound inputs, each as files by name.
        use: uses a folder of files; only :class:`UserError` may come out.
    """

    name: str
    bases: tuple[Files, ...]
    use: Callable[[Path], object]


@dataclass(frozen=True)
class Mutant:
    """A base with changes; what it is follows from these alone."""

    base: int
    changes: tuple[Change, ...]

    def files(self, target: Target) -> dict[str, bytes]:
        found = dict(target.bases[self.base])
        for name, seed in self.changes:
            draw = random.Random(seed)
            try:
                found[name] = draw.choice(edits_for(name))(found[name], draw)
            except Exception:  # what an earlier change left has no structure any more
                found[name] = flip(found[name], draw)
        return found


@dataclass
class Outcome:
    """How many mutants were tried, how many of them were taken, and what went wrong."""

    tried: int = 0
    taken: int = 0
    slowest: float = 0.0
    largest: float = 0.0
    failures: list[tuple[Mutant, str]] = field(default_factory=list)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """An error for users may end what is inside, in one line."""
    try:
        yield
    except UserError as error:
        if "\n" in str(error):
            raise RuntimeError(f"an error of several lines: {str(error)[:200]}") from None


def mutants(target: Target, seed: int) -> Iterator[Mutant]:
    """Without end; the same for the same seed."""
    draw = random.Random(f"{target.name} {seed}")
    while True:
        base = draw.randrange(len(target.bases))
        names = sorted(target.bases[base])
        changes = [(draw.choice(names), draw.getrandbits(48)) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        yield Mutant(base, tuple(changes))


def run(target: Target, *, count: int, seconds: float, seed: int = 0, store: bool = True) -> Outcome:
    """Try mutants until there were ``count`` or the time is up; failures are shrunk, and stored in ``found/``."""
    outcome, stream, until = Outcome(), mutants(target, seed), time.monotonic() + seconds
    warm_up(target)
    while outcome.tried < count and time.monotonic() < until:
        batch = [next(stream) for _ in range(min(100, count - outcome.tried))]
        while batch and time.monotonic() < until:
            batch = batch[_try(target, batch, outcome, until) :]
    for place, (mutant, reason) in enumerate(outcome.failures[:5]):
        small = shrink(target, mutant)
        outcome.failures[place] = (small, reason)
        if store:
            _store(target, small, reason)
    return outcome


def warm_up(target: Target) -> None:
    """Use the sound inputs, so that this process imports what each child would import anew, within a mutant's time."""
    with tempfile.TemporaryDirectory() as root, mock.patch.dict(os.environ, VITRAIL_CACHE=f"{root}/cache"):
        for number, files in enumerate(target.bases):
            for name, content in files.items():
                path = Path(root) / str(number) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
                target.use(Path(root) / str(number))


def shrink(target: Target, mutant: Mutant) -> Mutant:
    """The same failure with as few changes as will do."""
    for change in mutant.changes:
        fewer = Mutant(mutant.base, tuple(each for each in mutant.changes if each != change))
        if fewer.changes and failure_of(target, fewer) is not None:
            mutant = fewer
    return mutant


def failure_of(target: Target, mutant: Mutant) -> str | None:
    """What goes wrong with one mutant."""
    failures = try_all(target, [mutant]).failures
    return failures[0][1] if failures else None


def try_all(target: Target, batch: list[Mutant]) -> Outcome:
    """Use these mutants, each of them."""
    outcome = Outcome()
    while batch:
        batch = batch[_try(target, batch, outcome, time.monotonic() + WAIT) :]
    return outcome


def _try(target: Target, batch: list[Mutant], outcome: Outcome, until: float) -> int:
    """Use mutants in a child until one fails or the time is up; returns how many are done with."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(target, batch, writing, until)
    os.close(writing)
    done = 0
    with os.fdopen(reading, "rb") as results:
        while done < len(batch):
            signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
            signal.alarm(WAIT)
            try:
                reason, taken, seconds, megabytes = pickle.load(results)
            except EOFError:
                signal.alarm(0)
                break
            signal.alarm(0)
            done += 1
            outcome.tried, outcome.taken = outcome.tried + 1, outcome.taken + taken
            outcome.slowest, outcome.largest = max(outcome.slowest, seconds), max(outcome.largest, megabytes)
            if reason is not None:
                outcome.failures.append((batch[done - 1], reason))
    _, status = os.waitpid(child, 0)
    if done < len(batch) and (status or time.monotonic() < until):  # it died of the next one
        outcome.tried += 1
        outcome.failures.append((batch[done], f"the process died ({os.waitstatus_to_exitcode(status)})"))
        return done + 1
    return len(batch)


def _child(target: Target, batch: list[Mutant], writing: int, until: float) -> None:
    """Never returns."""
    try:
        warnings.simplefilter("ignore")
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silent, stream)
        memory = Path("/dev/shm")  # where making and removing files costs least
        root = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
        os.environ["VITRAIL_CACHE"] = str(root / "cache")
        os.chdir(root)
        with os.fdopen(writing, "wb", buffering=0) as results:
            for mutant in batch:
                if time.monotonic() > until:
                    break
                pickle.dump(_measured(target, mutant, root), results)
        shutil.rmtree(root, ignore_errors=True)
    finally:
        os._exit(0)


def _measured(target: Target, mutant: Mutant, root: Path) -> tuple[str | None, bool, float, float]:
    folder = root / "case"
    for name, content in mutant.files(target).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before, begun, reason, taken = _peak(reset=True), time.process_time(), None, False
    try:
        target.use(folder)
        taken = True
    except UserError as error:
        if "\n" in str(error):
            reason = f"an error of several lines: {str(error)[:200]}"
    except BaseException as error:  # whatever else is the finding
        reason = _described(error)
    seconds, megabytes = time.process_time() - begun, _peak() - before
    if seconds > SECONDS:
        reason = reason or f"took {seconds:.1f} s"
    if megabytes > MEGABYTES:
        reason = reason or f"took {megabytes:.0f} MB"
    shutil.rmtree(folder, ignore_errors=True)
    if canaries := [path.name for path in root.iterdir() if path.name not in ("case", "cache")]:
        reason = f"wrote {', '.join(canaries)}"
    return reason, taken, seconds, megabytes


def _described(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{Path(code.co_filename).name}:{trace.tb_lineno}" if "vitrail" in code.co_filename else place
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:150]} (at {place})"


def _peak(*, reset: bool = False) -> float:
    """The most memory that the process had, in MB; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0.0
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000


def _store(target: Target, mutant: Mutant, reason: str) -> None:
    folder = FOUND / f"{target.name}-{abs(hash(mutant)) % 10**8:08d}"
    for name, content in mutant.files(target).items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_bytes(content)
    (folder / "reason.txt").write_text(f"{reason}\n{mutant}\n", encoding="utf-8", errors="backslashreplace")
