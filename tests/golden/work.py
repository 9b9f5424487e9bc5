"""What a case has in its hands: the command line and the public names of one checkout, and where results are recorded.

Every command runs in a process forked from one that has imported PyTorch already; it is the same program as
``python -m vitrail``, with the start-up paid once.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

TIMES = {"seconds", "images_per_second", "training_seconds", "speed", "speedup", "eager", "engine", "latency"}
SPEEDS = {"eager_ms", "engine_ms", "faster", "milliseconds", "ms", "median", "p95", "images_per_s", "memory"}
PLACES = {"path", "file", "device", "created", "weights"}
VERSIONS = {"vitrail", "version"}
EXCLUDED = TIMES | SPEEDS | PLACES | VERSIONS
"""Keys of JSON and columns of CSV whose values may differ: times, paths, the version."""
LIBRARIES = (
    "torch", "torch._dynamo", "torch.export", "torch.onnx", "torchvision.transforms.v2", "torchmetrics",
    "safetensors.numpy", "PIL.Image", "matplotlib.figure", "matplotlib.backends.backend_agg", "onnx", "onnxscript",
    "scipy.optimize", "sklearn.metrics",
)  # fmt: skip
"""Imported once, before the forks. Not the runtimes: they have threads."""
LONGEST = 160  # characters of a recorded value; longer ones are recorded as their SHA-256


class Failed(Exception):
    """A command did not end as the case wants."""


class Work:
    """One case in one checkout. The current folder holds ``inputs``; all else that it writes is the case's own.

    Attributes:
        here: a folder of the case, relative.
        items: what was recorded, by name, in order: text that two checkouts must have in common.
    """

    def __init__(self, case: str) -> None:
        self.here = Path("out", case.replace("/", "-"))
        self.items: dict[str, str] = {}

    def vitrail(self, *arguments: object, code: int = 0) -> str:
        """Run the command line; its standard output.

        Raises:
            Failed: another exit status than ``code``.
        """
        process = self.start(*arguments)
        status = wait(process)
        if status != code:
            lines = (self.here / "stderr").read_text(errors="replace").strip().splitlines() or [""]
            raise Failed(f"vitrail {' '.join(map(str, arguments))}: exit status {status}: {lines[-1]}")
        return (self.here / "stdout").read_text()

    def json(self, *arguments: object) -> Any:
        """What a command with ``--json`` prints."""
        return json.loads(self.vitrail(*arguments, "--json"))

    def start(self, *arguments: object) -> int:
        """The same without waiting; the process's number."""
        self.here.mkdir(parents=True, exist_ok=True)
        words = [str(argument) for argument in arguments]
        return fork(lambda: _command(words), self.here)

    def python(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function that uses the package's public names returns, as JSON has it."""
        self.here.mkdir(parents=True, exist_ok=True)
        answer = self.here / "answer.json"
        status = wait(fork(lambda: _dump(function(*arguments), answer), self.here))
        if status:
            lines = (self.here / "stderr").read_text(errors="replace").strip().splitlines() or [""]
            raise Failed(f"{function.__name__}: exit status {status}: {lines[-1]}")
        return json.loads(answer.read_text())

    def record(self, name: str, value: Any) -> None:
        """Record plain JSON types: mappings leaf by leaf, without what is :data:`EXCLUDED`."""
        if isinstance(value, dict):
            for key, part in value.items():
                if key not in EXCLUDED:
                    self.record(f"{name}.{key}", part)
        elif isinstance(value, list) and value and len(value) <= 12 and all(isinstance(part, dict) for part in value):
            for index, part in enumerate(value):
                self.record(f"{name}.{index}", part)
        else:
            text = json.dumps(scrubbed(value))
            self._put(name, text if len(text) <= LONGEST else f"sha256 {sha256(text.encode())}")

    def tensors(self, name: str, path: Path) -> None:
        """Record every tensor of a safetensors file, and the description in its header."""
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            for key in sorted(file.keys()):
                self._put(f"{name}/{key}", hash_array(file.get_tensor(key)))
            for key, text in sorted((file.metadata() or {}).items()):
                if key not in EXCLUDED:
                    self.record(f"{name}#{key}", _parsed(text))

    def arrays(self, name: str, path: Path) -> None:
        """Record every array of an .npz file but the samples' names, which are absolute paths."""
        with np.load(path) as file:
            for key in sorted(set(file.files) - {"name"}):
                self._put(f"{name}/{key}", hash_array(file[key]))

    def weights(self, name: str, path: Path) -> None:
        """Record what ``vitrail convert`` wrote: a file of tensors, or a folder with one and its JSON."""
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            part = name if file == path else f"{name}/{file.relative_to(path)}"
            if file.suffix == ".safetensors":
                self.tensors(part, file)
            elif file.suffix == ".npz":
                self.arrays(part, file)
            elif file.suffix == ".json":
                self.record(part, json.loads(file.read_text()))

    def table(self, name: str, path: Path) -> None:
        """Record a CSV file row by row."""
        with path.open(newline="") as file:
            for index, row in enumerate(csv.DictReader(file)):
                self.record(f"{name}.{index}", row)

    def pixels(self, name: str, folder: Path, *, without: Iterable[str] = ()) -> None:
        """Record the pixels of a folder's pictures, whatever they are called.

        Args:
            without: ends of names to leave out.
        """
        from PIL import Image

        hashes = []
        for path in folder.rglob("*"):
            if path.suffix in (".png", ".jpg") and not path.stem.endswith(tuple(without)):
                with Image.open(path) as picture:
                    hashes.append(hash_array(np.asarray(picture)))
        for index, value in enumerate(sorted(hashes)):
            self._put(f"{name}.{index}", value)

    def files(self, name: str, folder: Path, suffixes: tuple[str, ...] = ()) -> None:
        """Record the bytes of a folder's files, by name."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (not suffixes or path.suffix in suffixes):
                self._put(f"{name}/{path.relative_to(folder)}", f"sha256 {sha256(path.read_bytes())}")

    def run(self, name: str, folder: Path, *, state: bool = True) -> None:
        """Record a run folder: losses and metrics of each epoch, the summary, the weights, the state for resuming."""
        if (folder / "summary.json").exists():
            self.record(f"{name} summary", json.loads((folder / "summary.json").read_text()))
        self.table(f"{name} metrics", folder / "metrics.csv")
        self.record(f"{name} data", json.loads((folder / "data.json").read_text()))
        for path in sorted(folder.glob("weights/*.safetensors")):
            self.tensors(f"{name} {path.stem}", path)
        states = sorted(folder.glob("state/[0-9]*"))
        if state and states:
            self.tensors(f"{name} state", states[-1] / "state.safetensors")

    def _put(self, name: str, text: str) -> None:
        assert name not in self.items, f"{name} is recorded twice"
        self.items[name] = text


def scrubbed(value: Any) -> Any:
    """Plain JSON types without what is :data:`EXCLUDED`."""
    if isinstance(value, dict):
        return {key: scrubbed(part) for key, part in value.items() if key not in EXCLUDED}
    return [scrubbed(part) for part in value] if isinstance(value, list) else value


def hash_array(array: np.ndarray[Any, Any]) -> str:
    """Type, shape and SHA-256 of the bytes."""
    shape = "x".join(map(str, array.shape))
    return f"{array.dtype} {shape} {sha256(np.ascontiguousarray(array).tobytes())}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wait_for(happened: Callable[[], bool], process: int, seconds: float = 120) -> None:
    """Until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened():
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            raise Failed(f"nothing happened for {seconds:g} seconds")
        time.sleep(0.01)


def wait(process: int) -> int:
    """How it ended: its exit status, or minus the signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fork(function: Callable[[], int | None], folder: Path) -> int:
    """Call the function in a separate process, its output in the folder's ``stdout`` and ``stderr``."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
        status = function() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(arguments: list[str]) -> int:
    sys.argv = ["vitrail", *arguments]
    try:
        runpy.run_module("vitrail", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0


def _dump(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def preload() -> None:
    """Import what every command needs, so that a fork has it."""
    for name in LIBRARIES:
        importlib.import_module(name)
    package: Any = importlib.import_module("vitrail")
    importlib.import_module("vitrail.cli")
    for name in package.__all__:
        getattr(package, name)
