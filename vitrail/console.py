"""Terminal output: notes, warnings, tables and progress.

Everything here goes to stderr, so that stdout holds only results. A terminal gets progress bars of rich, anything
else plain lines at a limited rate.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import zip_longest
from types import TracebackType
from typing import Any, TypeVar

from vitrail.errors import printable as printable

T = TypeVar("T")
PLAIN_INTERVAL = 10.0  # seconds between two progress lines when stderr is not a terminal
CELL_INTERVAL, CELL_WIDTH = 0.2, 100  # seconds between two updates of a notebook's line, and its columns
BAR = "━"
NARROWEST = 7  # columns of words in a table that gives way
SHORTEST_BAR, LONGEST_BAR, LABEL = 5, 40, 32  # columns

_bars: list[Any] = []  # the bars on the terminal now, innermost last
_silent = False
_said: set[tuple[object, str]] | None = None  # stream and text of the notes so far, where none is repeated


def note(text: str) -> None:
    """One plain line, e.g. a resolved ``auto``; above the progress bar where one is shown."""
    if _silent:
        return
    if _said is not None:
        if (sys.stderr, text) in _said:
            return
        _said.add((sys.stderr, text))
    if _bars:
        _bars[-1].console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    else:
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def each_note_once() -> Iterator[None]:
    """For a command: a note that was printed is not printed again, such as that of data that several steps open."""
    global _said
    before, _said = _said, set()
    try:
        yield
    finally:
        _said = before


@contextmanager
def without_notes() -> Iterator[None]:
    """For a step that reads what is known already: its notes and warnings are not printed."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def warn(text: str) -> None:
    """One line that begins with ``warning:``."""
    note(f"warning: {text}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain text table: columns of numbers are right-aligned, others left-aligned, two spaces apart. On a narrower
    terminal long cells continue on lines below.

    Widths are in terminal cells; a Chinese character takes two.
    """
    from rich.cells import cell_len

    cells = [[printable(str(c)) for c in row] for row in (columns, *rows)]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [len(cells) > 1 and all(_is_number(row[i]) for row in cells[1:]) for i in range(len(columns))]

    gap = "  "
    if sys.stdout.isatty():
        limit = shutil.get_terminal_size().columns
        widths = _narrowed(cells, widths, numeric, limit)
        gap = gap if sum(widths) + 2 * (len(widths) - 1) <= limit else " "

    def line(row: Sequence[str]) -> str:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        padded = (g + c if n else c + g for c, g, n in zip(row, gaps, numeric, strict=True))
        return gap.join(padded).rstrip()

    folded = ([_folded(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells)
    return "\n".join(line(part) for row in folded for part in zip_longest(*row, fillvalue=""))


def _narrowed(cells: list[list[str]], widths: list[int], numeric: list[bool], limit: int) -> list[int]:
    """Widths of columns that fit into ``limit`` cells, as far as numbers and the words of headings stay whole."""
    from rich.cells import cell_len

    words = [max(map(cell_len, name.split()), default=0) for name in cells[0]]
    numbers = [max((cell_len(row[i]) for row in cells[1:]), default=0) if numeric[i] else 0 for i in range(len(widths))]
    least = [numbers[i] if numeric[i] else min(width, NARROWEST) for i, width in enumerate(widths)]
    least = [max(each, word) for each, word in zip(least, words, strict=True)]
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > limit:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            break
        widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths


def _folded(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` cells, broken at spaces, and within what is longer than a line."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        for piece in chop_cells(word, width) if cell_len(word) > width else [word]:
            joined = f"{lines[-1]} {piece}" if lines[-1] else piece
            lines[-1:] = [joined] if cell_len(joined) <= width else [lines[-1], piece]
    return lines


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The same for notebooks."""
    import html

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(printable(str(c)))}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(columns, 'th')}</thead><tbody>{body}</tbody></table>"


class Progress:
    """A progress bar on a terminal, a line that changes in a notebook, plain lines elsewhere.

    ::

        with Progress("train", total=100) as progress:
            progress.advance(1, loss=0.3, rate=1e-3)
    """

    def __init__(self, label: str, total: int | None, *, enabled: bool = True) -> None:
        self.label, self.total, self.enabled = label, total, enabled
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self._bar: Any = None
        self._cell: Any = None  # of a notebook

    def __enter__(self) -> Progress:
        self.started = self.last_line = time.monotonic()
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as RichProgress
            from rich.progress import ProgressColumn, Task
            from rich.text import Text

            console = Console(stderr=True)

            class Line(ProgressColumn):
                def render(self, task: Task) -> Text:
                    left = "" if task.time_remaining is None else duration(task.time_remaining)
                    numbers = (int(task.completed), None if task.total is None else int(task.total))
                    label, done, rest, text = bar_parts(
                        task.description, *numbers, left, task.fields["shown"], console.width - 1
                    )
                    parts = (label, (BAR * done, "bar.complete"), (BAR * rest, "bar.back"), text)
                    return Text.assemble(*parts, no_wrap=True)

            self._bar = RichProgress(Line(), console=console, transient=True)
            self._bar.start()
            _bars.append(self._bar)
            self._task = self._bar.add_task(self.label, total=self.total, shown={})
        elif self.enabled and (display := _notebook()) is not None:
            self._cell = display({"text/plain": self.label}, raw=True, display_id=True)
        return self

    def advance(self, count: int = 1, **shown: object) -> None:
        """Advance by ``count``; ``shown`` appears as ``name value`` next to the bar."""
        self.done += count
        if not self.enabled:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, shown=shown)
        elif self._cell is not None:
            self._show_in_cell(shown)
        elif (now := time.monotonic()) - self.last_line >= PLAIN_INTERVAL:
            self.last_line = now
            numbers = dict(shown)
            left = numbers.pop("left", self._left(now))
            total = f"/{self.total}" if self.total else ""
            parts = [f"{self.label} {self.done}{total}", *([f"{left} left"] if left else []), *_numbers(numbers)]
            note("  ".join(parts))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            _bars.remove(self._bar)
            self._bar = None

    def _left(self, now: float) -> str:
        if not self.total or not self.done:
            return ""
        return duration((now - self.started) / self.done * (self.total - self.done))

    def _show_in_cell(self, shown: Mapping[str, object]) -> None:
        """Replace the notebook's line; a few times a second at most."""
        now = time.monotonic()
        if now - self.last_line < CELL_INTERVAL and self.done != self.total:
            return
        self.last_line = now
        parts = bar_parts(self.label, self.done, self.total, self._left(now), shown, CELL_WIDTH)
        label, done, rest, text = parts
        self._cell.update({"text/plain": f"{label}{BAR * done}{' ' * rest}{text}"}, raw=True)


def bar_parts(
    label: str, done: int, total: int | None, left: str, shown: Mapping[str, object], width: int
) -> tuple[str, int, int, str]:
    """What a progress line of ``width`` columns consists of: the label, the filled and the empty cells of its bar, and
    the text behind it. In a narrow terminal the bar and the last numbers give way; the first number (the loss) and the
    time left stay.

    Args:
        left: the time left, as text; a number named ``left`` is shown in its place.
    """
    numbers = dict(shown)
    left = str(numbers.pop("left", left))
    texts = _numbers(numbers)
    count = f"{done:,}/{total:,}" if total else f"{done:,}"
    if len(label) > LABEL:
        label = f"{label[: LABEL - 10]}…{label[-9:]}"
    while True:
        text = "  ".join(["", count, *([f"{left} left"] if left else []), *texts])
        room = width - len(label) - 1 - len(text)
        if room >= SHORTEST_BAR or len(texts) <= 1:
            break
        texts.pop()
    cells = max(min(room, LONGEST_BAR), 0) if total else 0
    filled = round(cells * min(done / total, 1)) if total else 0
    return f"{label} ", filled, cells - filled, text if cells else text[1:]


def track(items: Iterable[T], label: str, total: int | None = None, *, enabled: bool = True) -> Iterator[T]:
    """Iterate with progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(label, total, enabled=enabled) as progress:
        for item in items:
            yield item
            progress.advance()


def duration(seconds: float) -> str:
    """``75`` → ``1 min 15 s``; ``unknown`` for what is no finite number."""
    if not math.isfinite(seconds):
        return "unknown"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _notebook() -> Any:
    """IPython's ``display`` in a notebook; None elsewhere, also in IPython's terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


def _numbers(shown: Mapping[str, object]) -> list[str]:
    """``class_loss``, 0.25 → ``class loss 0.25``."""
    return [f"{name.replace('_', ' ')} {_short(value)}" for name, value in shown.items()]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True
