"""A candidate's process, as the measuring process uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import torch

from vitrail import engines
from vitrail.benchmarking.candidates import Candidate
from vitrail.benchmarking.result import Accuracy
from vitrail.config import to_dict
from vitrail.data.source import SourceConfig
from vitrail.predictor import Predictor

PATIENCE = 5.0  # seconds for a process to end by itself


class Lost(Exception):
    """A candidate that has failed, and why."""


class Opening(NamedTuple):
    """As of :func:`vitrail.load`."""

    allow_pickle: bool
    names: str | None


class Process:
    """The process of a candidate. It starts immediately and loads the model in the background.

    Args:
        model: that the candidate was made of.
        opening: how its weights were opened.
    """

    def __init__(self, candidate: Candidate, model: Predictor, opening: Opening) -> None:
        way, is_graph = candidate.way, engines.of_file(candidate.source) is not None
        task = model.task.name
        self.child = self._start()
        engine, merge = ("", 0) if is_graph else (way.engine, way.merge)
        trusted = opening.allow_pickle or is_graph  # of our own making, or opened before
        module = task if "." in task else None
        threads = torch.get_num_threads()
        how = (list(candidate.size), str(model.device), trusted, opening.names, threads, module)
        self._say("load", candidate.source, engine, way.precision, merge, *how)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.child.communicate(timeout=0 if error else PATIENCE)
        except (subprocess.TimeoutExpired, OSError):
            self.child.kill()
            self.child.communicate()

    def ready(self) -> None:
        """Wait until the model is loaded.

        Raises:
            Lost: it cannot be, or the process has ended.
        """
        self._hear()

    def prepare(self, batch: int) -> None:
        """As :meth:`Worker.prepare`. Raises as :meth:`ready`."""
        self._ask("prepare", batch)

    def turn(self, seconds: float) -> list[float]:
        """As :meth:`Worker.turn`. Raises as :meth:`ready`."""
        taken: list[float] = self._ask("turn", seconds)
        return taken

    def memory(self) -> tuple[int, int | None]:
        """As :meth:`Worker.memory`. Raises as :meth:`ready`."""
        resident, on_device = self._ask("memory")
        return resident, on_device

    def evaluate(self, data: SourceConfig, split: str) -> Accuracy:
        """As :meth:`Worker.evaluate`. Raises as :meth:`ready`."""
        return Accuracy(**self._ask("evaluate", to_dict(data), split))

    def _ask(self, question: str, *arguments: object) -> Any:
        """What the worker's method of that name returns."""
        self._say(question, *arguments)
        return self._hear()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "vitrail.benchmarking.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in sys.path)},
        )

    def _say(self, *question: object) -> None:
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):  # nothing will be heard
            print(json.dumps(question), file=self.child.stdin, flush=True)

    def _hear(self) -> Any:
        assert self.child.stdout is not None
        if not (line := self.child.stdout.readline()):
            raise Lost(f"its process ended with code {self.child.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Lost(answer["error"])
        return answer["value"]
