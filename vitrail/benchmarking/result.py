"""What a benchmark found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import files
from vitrail.benchmarking.ceiling import Ceiling
from vitrail.benchmarking.contenders import Contender, LeftOut, Way
from vitrail.ops.patches import Pair


@dataclass(frozen=True)
class Accuracy:
    """What a contender reaches on the data given.

    Attributes:
        label: of the metric that counts; ``shown``: its value as text.
    """

    label: str
    shown: str
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Row:
    """One contender at one batch size.

    Attributes:
        seconds: of each step that counts, in the order taken.
        memory: bytes, the largest resident set of the contender's process so far over that before it loaded the model;
            its smaller batches came before.
        device_memory: bytes that PyTorch had allocated on an accelerator at most, likewise; None on the CPU.
        speedup: images a second over the reference's of the same size and batch; None where that was lost.
        share: of the ceiling of its precision, by the multiply–accumulates that the model needs; None without one.
    """

    contender: Contender
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; of the steps their number and percentiles."""
        p50, p90, p99 = self.percentiles
        return {
            **dataclasses.asdict(self.contender.way),
            "image_size": list(self.contender.size),
            "batch": self.batch,
            "steps": len(self.seconds),
            "p50_ms": p50,
            "p90_ms": p90,
            "p99_ms": p99,
            "images_per_second": self.images_per_second,
            "speedup": self.speedup,
            "memory": self.memory,
            "device_memory": self.device_memory,
            "macs": self.contender.macs,
            "share_of_ceiling": self.share,
            "metrics": self.accuracy.metrics if self.accuracy else None,
        }


@dataclass(frozen=True)
class Benchmark:
    """All rows, by size, batch and contender, and what they are to be read with.

    Attributes:
        reference: what speedups are over.
        seconds: the time each row was given.
    """

    source: str
    device: str
    threads: int
    seconds: float
    reference: Way
    ceilings: tuple[Ceiling, ...]
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]

    def columns(self) -> list[str]:
        """The headings of :meth:`cells`."""
        label = next((row.accuracy.label for row in self.rows if row.accuracy), None)
        memory = "MB" if self.device == "cpu" else "device MB"
        fixed = ["", "size", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s", "speed", memory, "ceiling"]
        return fixed + ([label] if label else [])

    def cells(self) -> list[list[str]]:
        """The rows as text for people."""
        with_accuracy = any(row.accuracy for row in self.rows)
        return [
            [
                str(row.contender.way),
                times(row.contender.size),
                str(row.batch),
                *(f"{each:.1f}" for each in row.percentiles),
                f"{row.images_per_second:.1f}",
                "–" if row.speedup is None else f"{row.speedup:.2f} ×",
                f"{(row.memory if row.device_memory is None else row.device_memory) / 1e6:.0f}",
                "–" if row.share is None else f"{row.share:.0%}",
                *([row.accuracy.shown if row.accuracy else "–"] if with_accuracy else []),
            ]
            for row in self.rows
        ]

    def reasons(self) -> dict[str, list[LeftOut]]:
        """What was left out, by the reason."""
        found: dict[str, list[LeftOut]] = {}
        for each in self.left_out:
            found.setdefault(each.reason, []).append(each)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "source": self.source,
            "device": self.device,
            "threads": self.threads,
            "seconds": self.seconds,
            "reference": dataclasses.asdict(self.reference),
            "ceilings": [dataclasses.asdict(each) for each in self.ceilings],
            "rows": [row.to_dict() for row in self.rows],
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
            panel = speeds.setdefault(f"{times(row.contender.size)} pixels", {})
            panel.setdefault(str(row.contender.way), {})[row.batch] = row.images_per_second
        note = f"{self.device}, {self.threads} threads" if self.device == "cpu" else self.device
        style.save_png(throughput(speeds, note), folder / "benchmark.png")


def compared(rows: Sequence[Row], reference: Way, ceilings: Sequence[Ceiling]) -> list[Row]:
    """Rows with their speed over the reference's and their share of the ceiling."""
    plain = {(row.contender.size, row.batch): row for row in rows if row.contender.way == reference}
    best: dict[str, float] = {}
    for each in ceilings:
        best[each.precision] = max(each.gflops, best.get(each.precision, 0.0))
    result = []
    for row in rows:
        base, ceiling = plain.get((row.contender.size, row.batch)), best.get(row.contender.way.precision)
        rate = 2e-9 * row.contender.macs * row.images_per_second
        result.append(
            dataclasses.replace(
                row,
                speedup=row.images_per_second / base.images_per_second if base else None,
                share=rate / ceiling if ceiling else None,
            )
        )
    return result


def times(size: Pair) -> str:
    """``224×320``."""
    return "×".join(map(str, size))
