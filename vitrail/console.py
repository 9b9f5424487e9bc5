"""What people see while something runs: notes, warnings, tables and progress.

Everything here goes to stderr, so that stdout carries only results. A terminal gets rich's bars; anything else
gets plain lines at a bounded rate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
PLAIN_INTERVAL = 10.0  # seconds between two progress lines when stderr is not a terminal


def note(text: str) -> None:
    """One plain line, e.g. a resolved ``auto``."""
    print(printable(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One line that begins with ``warning:``."""
    note(f"warning: {text}")


def printable(text: str) -> str:
    """``text`` on one line, with bytes that are not UTF-8 and control characters escaped."""
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A plain text table: first column left, numbers right, two spaces between."""
    cells = [[str(c) for c in columns]] + [[printable(str(c)) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [len(cells) > 1 and all(_is_number(row[i]) for row in cells[1:]) for i in range(len(columns))]
    lines = (
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


class Progress:
    """A progress bar on a terminal, plain lines elsewhere.

    ::

        with Progress("train", total=100) as progress:
            progress.advance(1, loss=0.3, lr=1e-3)
    """

    def __init__(self, label: str, total: int | None, *, enabled: bool = True) -> None:
        self.label, self.total, self.enabled = label, total, enabled
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self.started = self.last_line = time.monotonic()
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[shown]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, shown="")
        return self

    def advance(self, count: int = 1, **shown: Any) -> None:
        """Count ``count`` more done; ``shown`` appears as ``name value`` beside the bar."""
        self.done += count
        if not self.enabled:
            return
        text = "  ".join(f"{name} {_short(value)}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, shown=text)
        elif (now := time.monotonic()) - self.last_line >= PLAIN_INTERVAL:
            self.last_line = now
            total = f"/{self.total}" if self.total else ""
            note(f"{self.label} {self.done}{total}{self._eta(now)}  {text}".rstrip())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _eta(self, now: float) -> str:
        if not self.total or not self.done:
            return ""
        left = (now - self.started) / self.done * (self.total - self.done)
        return f"  {duration(left)} left"


def track(items: Iterable[T], label: str, total: int | None = None, *, enabled: bool = True) -> Iterator[T]:
    """Iterate with progress."""
    total = total if total is not None or not hasattr(items, "__len__") else len(items)
    with Progress(label, total, enabled=enabled) as progress:
        for item in items:
            yield item
            progress.advance()


def duration(seconds: float) -> str:
    """``75`` → ``1 min 15 s``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True
