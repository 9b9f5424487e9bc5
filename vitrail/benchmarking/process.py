"""A contender's process, seen from the one that measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

import torch

from vitrail import engines
from vitrail.benchmarking.contenders import Contender
from vitrail.predictor import Predictor

PATIENCE = 5.0  # seconds for a process to end by itself


class Lost(Exception):
    """A contender that cannot go on, and why."""


class Process:
    """Started at once; it loads the contender's model meanwhile.

    Args:
        model: what the contender was made of.
    """

    def __init__(self, contender: Contender, model: Predictor, *, allow_pickle: bool) -> None:
        way, is_graph = contender.way, engines.of_file(contender.source) is not None
        task = model.task.name
        options = {
            "image_size": contender.size,
            "device": str(model.device),
            "allow_pickle": allow_pickle or is_graph,  # of our own making, or opened before
            "threads": torch.get_num_threads(),
            "module": task if "." in task else None,
        }
        self.child = self._start()
        engine, merge = ("", 0) if is_graph else (way.engine, way.merge)
        self._say("load", contender.source, engine, way.precision, merge, options)

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

    def ask(self, question: str, *arguments: Any) -> Any:
        """What the worker's method of that name returns. Raises as :meth:`ready`."""
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

    def _say(self, *question: Any) -> None:
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
