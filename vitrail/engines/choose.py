"""An engine for a task in memory: one by its name, or the one that is measured to be the fastest."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from vitrail import engines, files
from vitrail.console import note
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import Engine, FileFormat, InProcess, Opened, cache
from vitrail.engines.comparing import compare, require_agreement
from vitrail.engines.fingerprint import cache_key, fingerprint
from vitrail.engines.graph import Graph, writing
from vitrail.errors import UserError
from vitrail.trainable import Embedder

PLAIN = "eager"
GAIN = 1.15  # below it, auto stays with the task as it is
BATCH, ROUNDS = 8, 5
CHOICE = "choice.json"


def start(
    name: str, task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None = None
) -> Engine:
    """The engine ``name``, or the one that ``auto`` finds to be the fastest, for ``task``.

    Whatever computes in place of the task is compared with it once, when it is made. Graphs, these differences and what
    ``auto`` measured are kept in the user's cache (:mod:`vitrail.engines.cache`).

    Args:
        folder: a run's ``engines/``, which may hold graphs and measurements, too.

    Raises:
        UserError: no such engine, its library is not installed, it cannot hold the model, or it computes something else
            than the task by more than :data:`~vitrail.engines.comparing.TOLERANCES`.
    """
    if name == "auto":
        return _fastest(task, preprocess, precision, folder)
    runtime = engines.load(name, precision)
    if isinstance(runtime, InProcess):
        engine = runtime.prepare(task, precision)
        if engine is not task and name != PLAIN:
            key = cache_key(task, fingerprint(task, preprocess))
            _require_agreement(name, engine, task, preprocess, precision, key and f"{name}-{key}")
        return engine
    opened, key = _opened(name, runtime, task, preprocess, precision, folder)
    graph = Graph(task, opened)
    _require_agreement(name, graph, task, preprocess, precision, key)
    return graph


def _opened(
    name: str, runtime: FileFormat, task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None
) -> tuple[Opened, str | None]:
    """The graph of this very model, written if need be, and the entry of the cache that belongs to it. What can run
    code when it is opened is rewritten."""
    found = None if runtime.pickled else fingerprint(task, preprocess)
    key = cache_key(task, found) if found is not None else None
    if folder is not None and found is not None and (kept := folder / f"{name}-{found}{runtime.suffix}").is_file():
        return runtime.read(kept, precision), key and f"{name}-of-run-{key}"
    if key is not None:
        key = f"{name}-{key}"
        if (entry := cache.find(key)) is not None:
            try:
                return runtime.read(entry / f"model{runtime.suffix}", precision), key
            except UserError as error:
                note(f"engine {name}: written again, because {error}")
                cache.discard(key)
        try:
            with cache.adding(key) as entry:
                return _written(entry, name, runtime, task, preprocess, precision), key
        except UserError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            note(f"engine {name}: not kept for the next time, because {error}")
    with tempfile.TemporaryDirectory(prefix="vitrail-") as temporary:
        return _written(Path(temporary), name, runtime, task, preprocess, precision), None


def _require_agreement(
    name: str, engine: Engine, task: Embedder, preprocess: PreprocessConfig, precision: str, key: str | None
) -> None:
    """Does the engine compute what the task does? It is compared unless the entry ``key`` of the cache knows.

    Raises:
        UserError: it does not.
    """
    known = f"differences-{precision}.json"
    errors: dict[str, float] = {}
    if key is not None and (entry := cache.find(key)) is not None:
        with suppress(UserError):  # there are none yet
            errors = files.read_json(entry / known)
    if not errors:
        errors = compare(name, engine, task, preprocess, precision)
        if key is not None and (entry := cache.find(key) or cache.added(key)) is not None:
            cache.write(entry / known, errors)
    require_agreement(name, precision, errors)


def _written(
    folder: Path, name: str, runtime: FileFormat, task: Embedder, preprocess: PreprocessConfig, precision: str
) -> Opened:
    file = folder / f"model{runtime.suffix}"
    with writing(task, preprocess, name, file):
        pass
    return runtime.read(file, precision)


def _fastest(task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None) -> Engine:
    found = fingerprint(task, preprocess, precision, _machine())
    key = cache_key(task, found)
    if (name := _known(found, key, folder)) in engines.names():
        try:
            engine = start(name, task, preprocess, precision, folder)
            note(f"engine auto: {name} (measured before)")
            return engine
        except UserError as error:
            note(f"engine auto: measured again, because {error}")
    started = _candidates(task, preprocess, precision, folder)
    seconds = measure(started, task, preprocess)
    name = min(seconds, key=lambda each: seconds[each])
    if seconds[PLAIN] < GAIN * seconds[name]:
        name = PLAIN
    shown = ", ".join(f"{each} {taken * 1e3:.1f} ms" for each, taken in seconds.items())
    note(f"engine auto: {name} ({BATCH} images take: {shown})")
    if key is not None:
        cache.discard(f"auto-{key}")
        with cache.adding(f"auto-{key}") as entry:
            cache.write(entry / CHOICE, {"engine": name})
    return started[name]


def _known(found: str, key: str | None, folder: Path | None) -> str:
    """What was chosen before, in the run or in the cache; empty: nothing that can be read."""
    places = [(folder / "auto.json", found)] if folder is not None else []
    if key is not None and (entry := cache.find(f"auto-{key}")) is not None:
        places.append((entry / CHOICE, "engine"))
    for file, field in places:
        try:
            if file.exists() and field in (choices := files.read_json(file)):
                return str(choices[field])
        except UserError as error:
            note(f"engine auto: measured again, because {error}")
    return ""


def _candidates(task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None) -> dict[str, Engine]:
    """Every engine that is installed and can hold the model; none whose files can run code."""
    on_cpu = next(task.parameters()).device.type == "cpu"
    found: dict[str, Engine] = {}
    for name in engines.names():
        runtime = engines.load(name)
        if precision not in runtime.precisions:
            continue
        if isinstance(runtime, FileFormat) and (runtime.pickled or not on_cpu):
            continue
        try:
            found[name] = start(name, task, preprocess, precision, folder)
        except UserError as error:
            note(f"engine auto: not {name}: {error}")
    return found


@torch.inference_mode()
def measure(found: Mapping[str, Engine], task: Embedder, preprocess: PreprocessConfig) -> dict[str, float]:
    """Median seconds of a batch of the model's own input size; the engines take turns."""
    device = next(task.parameters()).device
    images = torch.randn(BATCH, preprocess.channels, *preprocess.size, device=device)
    taken: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(1 + ROUNDS):
        for name, engine in found.items():
            started = time.perf_counter()
            engine(images).cpu()
            taken[name] += [time.perf_counter() - started] if turn else []
    return {name: statistics.median(each) for name, each in taken.items()}


def _machine() -> str:
    """What speed depends on: the processor and its number of threads."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{platform.machine()} {processor} {torch.get_num_threads()}"
