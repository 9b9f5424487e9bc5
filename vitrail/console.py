"""Terminal output: notes, warnings, tables and progress.

Everything here goes to stderr, so that stdout holds only results. A terminal gets progress bars of rich, anything
else plain lines at a limited rate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
PLAIN_INTERVAL = 10.0  # seconds between two progress lines when stderr is not a terminal

_bars: list[Any] = []  # the bars on the terminal now, innermost last


def note(text: str) -> None:
    """One plain line, e.g. a resolved ``auto``; above the progress bar where one is shown."""
    if _bars:
        _bars[-1].console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    else:
        print(printable(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One line that begins with ``warning:``."""
    note(f"warning: {text}")


def printable(text: str) -> str:
    """``text`` on one line, with bytes that are not UTF-8 and control characters escaped."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain text table: columns of numbers are right-aligned, others left-aligned, two spaces apart.

    Widths are in terminal cells; a Chinese character takes two.
    """
    from rich.cells import cell_len

    cells = [[printable(str(c)) for c in row] for row in (columns, *rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [len(cells) > 1 and all(_is_number(row[i]) for row in cells[1:]) for i in range(len(columns))]

    def line(row: list[str]) -> str:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        padded = (g + c if n else c + g for c, g, n in zip(row, gaps, numeric, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in cells)


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
            _bars.append(self._bar)
            self._task = self._bar.add_task(self.label, total=self.total, shown="")
        return self

    def advance(self, count: int = 1, **shown: object) -> None:
        """Advance by ``count``; ``shown`` appears as ``name value`` next to the bar."""
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
            _bars.remove(self._bar)
            self._bar = None

    def _eta(self, now: float) -> str:
        if not self.total or not self.done:
            return ""
        left = (now - self.started) / self.done * (self.total - self.done)
        return f"  {duration(left)} left"


def track(items: Iterable[T], label: str, total: int | None = None, *, enabled: bool = True) -> Iterator[T]:
    """Iterate with progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
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


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True
