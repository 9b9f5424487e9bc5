"""An engine for a task that is in memory, and the choice among them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vitrail import engines, files, registry
from vitrail.config import to_dict
from vitrail.console import note
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import Engine
from vitrail.engines._files import Graph, writing
from vitrail.errors import UserError
from vitrail.trainable import Embedder

PLAIN = "eager"
GAIN = 1.15  # below it, auto stays with the task as it is
BATCH, ROUNDS = 8, 5
LIBRARIES = ("torch", "onnxruntime", "openvino")


def start(name: str, task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None) -> Engine:
    """The engine ``name``, or the one that ``auto`` finds to be the fastest, for ``task``.

    Args:
        folder: keeps exported graphs and what ``auto`` measured, for the next time; None: nothing is kept.

    Raises:
        UserError: no such engine, its library is not installed, or it cannot hold the model.
    """
    if name == "auto":
        return _fastest(task, preprocess, precision, folder)
    module = engines.load(name, precision)
    if hasattr(module, "prepare"):
        prepared: Engine = module.prepare(task, precision)
        return prepared
    with _exported(name, task, preprocess, folder) as file:
        return Graph(task, module.read(file, precision))


@contextmanager
def _exported(name: str, task: Embedder, preprocess: PreprocessConfig, folder: Path | None) -> Iterator[Path]:
    """The file of this very model, written if need be."""
    suffix = engines.load(name).SUFFIX
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="vitrail-") as temporary:
            with writing(task, preprocess, name, Path(temporary) / f"model{suffix}"):
                pass
            yield Path(temporary) / f"model{suffix}"
        return
    file = folder / f"{name}-{_fingerprint(task, preprocess)}{suffix}"
    if not file.exists():
        with writing(task, preprocess, name, file):
            pass
        note(f"engine {name}: kept in {file}")
    yield file


def _fastest(task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None) -> Engine:
    key = _fingerprint(task, preprocess, precision, _machine())
    choices = folder / "auto.json" if folder is not None else None
    known: dict[str, Any] = files.read_json(choices) if choices is not None and choices.exists() else {}
    if (name := known.get(key)) in registry.names("engines"):
        note(f"engine auto: {name} (measured before)")
        return start(name, task, preprocess, precision, folder)
    found = _candidates(task, preprocess, precision, folder)
    seconds = measure(found, task, preprocess)
    name = min(seconds, key=lambda each: seconds[each])
    if seconds[PLAIN] < GAIN * seconds[name]:
        name = PLAIN
    shown = ", ".join(f"{each} {taken * 1e3:.1f} ms" for each, taken in seconds.items())
    note(f"engine auto: {name} ({BATCH} images take: {shown})")
    if choices is not None:
        files.write_json(choices, known | {key: name})
    return found[name]


def _candidates(task: Embedder, preprocess: PreprocessConfig, precision: str, folder: Path | None) -> dict[str, Engine]:
    """Every engine that is there and can hold the model; none whose files can run code."""
    on_cpu = next(task.parameters()).device.type == "cpu"
    found: dict[str, Engine] = {}
    for name in registry.names("engines"):
        module = registry.load("engines", name)
        if precision not in module.PRECISIONS or getattr(module, "PICKLED", False):
            continue
        if hasattr(module, "SUFFIX") and not on_cpu:
            continue
        try:
            found[name] = start(name, task, preprocess, precision, folder)
        except UserError as error:
            note(f"engine auto: not {name}: {error}")
    return found


@torch.inference_mode()
def measure(found: dict[str, Engine], task: Embedder, preprocess: PreprocessConfig) -> dict[str, float]:
    """Median seconds of a batch of the model's own input; the engines take turns."""
    device = next(task.parameters()).device
    images = torch.randn(BATCH, preprocess.channels, *preprocess.size, device=device)
    taken: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(1 + ROUNDS):
        for name, engine in found.items():
            started = time.perf_counter()
            engine(images).cpu()
            taken[name] += [time.perf_counter() - started] if turn else []
    return {name: statistics.median(each) for name, each in taken.items()}


def _fingerprint(task: Embedder, preprocess: PreprocessConfig, *more: str) -> str:
    """Of the weights, what they are for, and the libraries that make something of them."""
    digest = hashlib.sha256()
    for name, tensor in task.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = [to_dict(task.config), to_dict(preprocess), *_versions(), *more]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:16]


def _versions() -> list[str]:
    return [f"{name} {_version(name)}" for name in LIBRARIES]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _machine() -> str:
    """What speed hangs on: the processor and its number of threads."""
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{platform.machine()} {processor} {torch.get_num_threads()}"
