"""Candidates measured in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from vitrail.benchmarking.candidates import Candidate, LeftOut
from vitrail.benchmarking.process import Lost, Process
from vitrail.benchmarking.result import Row
from vitrail.console import Progress
from vitrail.data.source import SourceConfig
from vitrail.results import size_text

T = TypeVar("T")
ROUNDS = 5  # turns of each candidate in a row


def take_turns(
    processes: Mapping[Candidate, Process],
    batches: Sequence[int],
    seconds: float,
    labelled: tuple[SourceConfig, str] | None = None,
) -> tuple[list[Row], list[LeftOut]]:
    """Measure candidates of one image size. One that fails is left out from there on.

    Args:
        batches: rising, because the largest memory so far counts.
        seconds: of all the turns of a row.
        labelled: data and its split, for the accuracy, which is measured last.
    """
    size = size_text(next(iter(processes)).size) if processes else ""
    asked = 1 + len(batches) * (1 + ROUNDS) + bool(labelled)
    with Progress(f"benchmark {size}", len(processes) * asked) as progress:
        ring = _Ring(dict(processes), progress)
        ring.ask(Process.ready)
        rows = [row for batch in batches for row in _rows(ring, batch, seconds)]
        if labelled is not None:
            found = ring.ask(lambda process: process.evaluate(*labelled))
            rows = [dataclasses.replace(row, accuracy=found.get(row.candidate)) for row in rows]
        return rows, ring.left_out


class _Ring:
    """The candidates that have not failed."""

    def __init__(self, processes: dict[Candidate, Process], progress: Progress) -> None:
        self.processes, self.progress = processes, progress
        self.left_out: list[LeftOut] = []

    def ask(self, question: Callable[[Process], T]) -> dict[Candidate, T]:
        """Each one's result, one after the other."""
        answers = {}
        for candidate, process in list(self.processes.items()):
            try:
                answers[candidate] = question(process)
            except Lost as error:
                del self.processes[candidate]
                self.left_out.append(LeftOut(candidate.way, candidate.size, str(error)))
            self.progress.advance()
        return answers


def _rows(ring: _Ring, batch: int, seconds: float) -> list[Row]:
    ring.ask(lambda process: process.prepare(batch))
    turns = [ring.ask(lambda process: process.turn(seconds / ROUNDS)) for _ in range(ROUNDS)]
    return [
        Row(candidate, batch, tuple(step for turn in turns for step in turn[candidate]), *process.memory())
        for candidate, process in ring.processes.items()
    ]
