"""Candidates in processes of their own that take turns, so that all of them run under the same load of the machine."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

Step = Callable[[], None]
PER_TURN = 3  # steps at least, of which the first finds cold caches and does not count
SECONDS = 0.3  # of a turn at least, so that short steps find a clock that has sped up and threads that are awake


class Measured(NamedTuple):
    """Seconds of every step, and the process's peak memory in GB, by candidate."""

    seconds: dict[str, list[float]]
    memory: dict[str, float]


def take_turns(candidates: Mapping[str, tuple[Callable[..., Step], Any]], rounds: int) -> Measured:
    """Measure ``rounds`` turns of each after one that warms up.

    Args:
        candidates: by name, a function of a module's top level that makes the step, and its arguments.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name, (build, arguments) in candidates.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=_work, args=(theirs, build, arguments), daemon=True).start()
    seconds: dict[str, list[float]] = {name: [] for name in pipes}
    for turn in range(1 + rounds):
        for name, pipe in pipes.items():
            pipe.send(PER_TURN)
            taken = pipe.recv()[1:]
            seconds[name] += taken if turn else []
    memory = {}
    for name, pipe in pipes.items():
        pipe.send(None)
        memory[name] = pipe.recv()
    return Measured(seconds, memory)


def _work(pipe: Connection, build: Callable[..., Step], arguments: tuple[Any, ...]) -> None:
    """Answers each number of steps with their seconds; None ends it with its peak memory."""
    step = build(*arguments)
    while (num_steps := pipe.recv()) is not None:
        seconds = []
        while len(seconds) < num_steps or sum(seconds) < SECONDS:
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        pipe.send(seconds)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
