"""What a benchmark found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail import files
from vitrail.benchmarking.candidates import Candidate, LeftOut, Way
from vitrail.benchmarking.roofline import Roofline
from vitrail.results import Column, ResultTable, Tabular, size_text


@dataclass(frozen=True)
class Accuracy:
    """What a candidate reaches on the data given.

    Attributes:
        label: of the metric that the task is selected by.
        shown: its value as text.
        metrics: all of them.
    """

    label: str
    shown: str
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Row:
    """One candidate at one batch size.

    Attributes:
        seconds: of each step that counts, in the order taken.
        memory: bytes, the largest resident set of the candidate's process so far over that before it loaded the model;
            its smaller batches came before.
        device_memory: bytes that PyTorch had allocated on an accelerator at most, likewise; None on the CPU.
        speedup: images a second over the reference's of the same size and batch; None where that was lost.
        share: of the roofline of its precision, by the multiply–accumulates that the model needs; None without one.
    """

    candidate: Candidate
    batch: int
    seconds: tuple[float, ...]
    memory: int
    device_memory: int | None
    speedup: float | None = None
    share: float | None = None
    accuracy: Accuracy | None = None

    @property
    def percentiles(self) -> tuple[float, float, float]:
        """Milliseconds of a batch that 50, 90 and 99 % of the steps stay below, interpolated between steps."""
        p50, p90, p99 = np.percentile(self.seconds, (50, 90, 99)) * 1e3
        return float(p50), float(p90), float(p99)

    @property
    def images_per_second(self) -> float:
        """At the median."""
        return self.batch / self.percentiles[0] * 1e3


@dataclass(frozen=True, repr=False)
class Benchmark(Tabular):
    """All rows, by size, batch and candidate, and the conditions they were measured in.

    Attributes:
        reference: what speedups are over.
        seconds: the time each row was given.
    """

    source: str
    device: str
    threads: int
    seconds: float
    reference: Way
    rooflines: tuple[Roofline, ...]
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def table(self) -> ResultTable[Row]:
        """The rows as text and as JSON; the accuracy is shown where it was measured."""
        label = next((row.accuracy.label for row in self.rows if row.accuracy), "")
        accuracy: Column[Row] = Column(lambda row: row.accuracy.shown if row.accuracy else None, label)
        return ResultTable((*COLUMNS, accuracy), self.rows)

    def reasons(self) -> dict[str, list[LeftOut]]:
        """What was left out, by the reason."""
        found: dict[str, list[LeftOut]] = {}
        for each in self.left_out:
            found.setdefault(each.reason, []).append(each)
        return found

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return {
            "source": self.source,
            "device": self.device,
            "threads": self.threads,
            "seconds": self.seconds,
            "reference": dataclasses.asdict(self.reference),
            "ceilings": [dataclasses.asdict(each) for each in self.rooflines],
            "rows": self.table.to_dict(),
            "left_out": [
                {**dataclasses.asdict(each.way), "image_size": list(each.size), "reason": each.reason}
                for each in self.left_out
            ],
        }

    def save(self, folder: str | Path) -> None:
        """Write ``benchmark.json`` and ``benchmark.png``, in place of what was there."""
        from vitrail.report import style
        from vitrail.report.figures.throughput import throughput
        from vitrail.report.plain import plain

        folder = Path(folder)
        files.write_json(folder / "benchmark.json", plain(self.to_dict()))
        speeds: dict[str, dict[str, dict[int, float]]] = {}
        for row in self.rows:
            panel = speeds.setdefault(f"{size_text(row.candidate.size)} pixels", {})
            panel.setdefault(str(row.candidate.way), {})[row.batch] = row.images_per_second
        note = f"{self.device}, {self.threads} threads" if self.device == "cpu" else self.device
        style.save_png(throughput(speeds, note), folder / "benchmark.png")


def compared(rows: Sequence[Row], reference: Way, rooflines: Sequence[Roofline]) -> list[Row]:
    """Rows with their speed over the reference's and their share of the roofline."""
    plain = {(row.candidate.size, row.batch): row for row in rows if row.candidate.way == reference}
    best: dict[str, float] = {}
    for each in rooflines:
        best[each.precision] = max(each.gflops, best.get(each.precision, 0.0))
    result = []
    for row in rows:
        base, roofline = plain.get((row.candidate.size, row.batch)), best.get(row.candidate.way.precision)
        rate = 2e-9 * row.candidate.macs * row.images_per_second
        result.append(
            dataclasses.replace(
                row,
                speedup=row.images_per_second / base.images_per_second if base else None,
                share=rate / roofline if roofline else None,
            )
        )
    return result


def _memory(row: Row) -> float:
    """MB, of the accelerator where there is one."""
    return (row.memory if row.device_memory is None else row.device_memory) / 1e6


COLUMNS: tuple[Column[Row], ...] = (
    Column(lambda row: str(row.candidate.way), "engine"),
    Column(lambda row: row.candidate.way.engine, key="engine"),
    Column(lambda row: row.candidate.way.precision, key="precision"),
    Column(lambda row: row.candidate.way.merge, key="merge"),
    Column(lambda row: size_text(row.candidate.size), "size"),
    Column(lambda row: list(row.candidate.size), key="image_size"),
    Column(lambda row: row.batch, "batch", "batch"),
    Column(lambda row: len(row.seconds), key="steps"),
    Column(lambda row: row.percentiles[0], "p50", "p50_ms", unit="ms", format="{:.1f}"),
    Column(lambda row: row.percentiles[1], "p90", "p90_ms", unit="ms", format="{:.1f}"),
    Column(lambda row: row.percentiles[2], "p99", "p99_ms", unit="ms", format="{:.1f}"),
    Column(lambda row: row.images_per_second, "images/s", "images_per_second", format="{:.1f}"),
    Column(lambda row: row.speedup, "speed", "speedup", format="{:.2f} ×"),
    Column(lambda row: row.memory, key="memory"),
    Column(lambda row: row.device_memory, key="device_memory"),
    Column(lambda row: row.candidate.macs, key="macs"),
    Column(_memory, "memory", unit="MB", format="{:.0f}"),
    Column(lambda row: row.share, "roofline", "share_of_ceiling", format="{:.0%}"),
    Column(lambda row: row.accuracy.metrics if row.accuracy else None, key="metrics"),
)
