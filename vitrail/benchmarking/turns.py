"""Contenders side by side, one step after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vitrail.benchmarking.contenders import Contender, LeftOut
from vitrail.benchmarking.process import Lost, Process
from vitrail.benchmarking.result import Accuracy, Row, times
from vitrail.console import Progress

ROUNDS = 5  # turns of each contender in a row


def take_turns(
    processes: Mapping[Contender, Process], batches: Sequence[int], seconds: float, question: Sequence[Any] = ()
) -> tuple[list[Row], list[LeftOut]]:
    """Measure contenders of one image size; who cannot go on is left out of what follows.

    Args:
        batches: rising, because the largest memory so far counts.
        seconds: of all the turns of a row.
        question: after the last batch, what ``Worker.evaluate`` takes; () for none.
    """
    size = times(next(iter(processes)).size) if processes else ""
    asked = 1 + len(batches) * (1 + ROUNDS) + bool(question)
    with Progress(f"benchmark {size}", len(processes) * asked) as progress:
        ring = _Ring(dict(processes), progress)
        ring.ask(Process.ready)
        rows = [row for batch in batches for row in _rows(ring, batch, seconds)]
        if question:
            found = ring.ask(lambda process: Accuracy(**process.ask("evaluate", *question)))
            rows = [dataclasses.replace(row, accuracy=found.get(row.contender)) for row in rows]
        return rows, ring.left_out


class _Ring:
    """Those that are still there."""

    def __init__(self, processes: dict[Contender, Process], progress: Progress) -> None:
        self.processes, self.progress = processes, progress
        self.left_out: list[LeftOut] = []

    def ask(self, question: Callable[[Process], Any]) -> dict[Contender, Any]:
        """Each one's answer, one after the other."""
        answers = {}
        for contender, process in list(self.processes.items()):
            try:
                answers[contender] = question(process)
            except Lost as error:
                del self.processes[contender]
                self.left_out.append(LeftOut(contender.way, contender.size, str(error)))
            self.progress.advance()
        return answers


def _rows(ring: _Ring, batch: int, seconds: float) -> list[Row]:
    ring.ask(lambda process: process.ask("prepare", batch))
    turns = [ring.ask(lambda process: process.ask("turn", seconds / ROUNDS)) for _ in range(ROUNDS)]
    return [
        Row(contender, batch, tuple(step for turn in turns for step in turn[contender]), *process.ask("memory"))
        for contender, process in ring.processes.items()
    ]
