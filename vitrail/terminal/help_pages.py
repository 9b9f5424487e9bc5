"""Help as plain text that fits the terminal: paragraphs, examples that can be copied, options in named groups."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vitrail.terminal.option_groups import grouped

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions, RenderableType

WIDEST = 100  # columns; longer lines are hard to read
NAMES = 30  # columns for names at most; a longer one has its description below
HEADING = "Examples"
NOTHING = ("None", "False", "")  # defaults of options that are off, or that nothing is given to
WORD = r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'])+"  # of a command line
OPTION = rf"--[\w-]+ (?![-|&<>]){WORD}"


class HelpPages:
    """Formats what cyclopts knows of a command; see its ``HelpFormatter``."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: RenderableType) -> None:
        """``Usage: vitrail predict [OPTIONS] RUN [ARGS...]``."""
        if text := _plain(usage):
            _print(console, [*_wrapped(f"Usage: {text.removeprefix('Usage: ')}", _width(), "       "), ""])

    def render_description(self, console: Console, options: ConsoleOptions, description: RenderableType) -> None:
        """The docstring: paragraphs are filled, examples stay commands that a shell takes."""
        if text := _plain(description):
            _print(console, [*described(text, _width()), ""])

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Commands and arguments as they come, options in their groups."""
        entries = [entry for entry in panel.entries if entry.display_labels]
        width = _width()
        if not entries:
            return
        if panel.format == "command" or any(entry.positional_label for entry in entries):
            _print(console, _section(_plain(panel.title), [(_label(e), _text(e)) for e in entries], width))
            return
        by_name = {_name(entry): entry for entry in entries}
        for heading, names in grouped(by_name).items():
            rows = [(_label(by_name[name]), _text(by_name[name])) for name in names]
            _print(console, _section(heading, rows, width))


def described(text: str, width: int) -> list[str]:
    """A docstring in lines of at most ``width`` columns: paragraphs are filled, the lines under "Examples" are commands
    and are broken where a shell allows it."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        first, *others = paragraph.strip("\n").splitlines()
        lines += [""] if lines else []
        if first.strip().rstrip(":") == HEADING:
            remarks = max((len(line.strip().partition("  ")[0]) for line in others if "  " in line.strip()), default=0)
            lines.append(f"{HEADING}:")
            lines += [part for line in others for part in command_lines(line.strip(), width, remarks)]
        else:
            lines += _wrapped(" ".join(paragraph.split()), width)
    return lines


def examples(docstring: str) -> list[str]:
    """The commands under "Examples" of a docstring."""
    _, found, rest = textwrap.dedent(docstring).partition(f"{HEADING}\n")
    block = rest.partition("\n\n")[0] if found else ""
    return [line.strip() for line in block.splitlines() if line.strip()]


def command_lines(command: str, width: int, remarks: int = 0) -> list[str]:
    """A command, indented, with ``\\`` at the end of each line that goes on, an option and its value on one line.

    Args:
        command: what follows two spaces is a remark on it.
        remarks: the column where remarks begin, where all fit.
    """
    command, _, remark = command.partition("  ")
    lines = [" "]
    for words in re.findall(rf"{OPTION}|{WORD}", command):
        if len(lines[-1]) + len(words) + 3 > width and lines[-1].strip():
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {words}"
    if not remark:
        return lines
    placed = f"{lines[-1]:{remarks + 2}}  {remark.strip()}"
    return [*lines[:-1], placed] if len(placed) <= width else [f"  # {remark.strip()}", *lines]


def _section(heading: str, rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """A heading and its rows, descriptions in one column."""
    column = min(max((len(label) for label, _ in rows), default=0), NAMES, width // 2 - 4) + 4
    lines = [f"{heading}:"]
    for label, text in rows:
        parts = _wrapped(text, max(width - column, 20))
        head = f"  {label}"
        if len(head) + 2 > column:
            lines.append(head)
            lines += [" " * column + part for part in parts]
        else:
            lines.append((head.ljust(column) + (parts[0] if parts else "")).rstrip())
            lines += [" " * column + part for part in parts[1:]]
    return [*lines, ""]


def _text(entry: HelpEntry) -> str:
    """What it does, its choices and its default."""
    parts = [_plain(entry.description)]
    if entry.choices:
        parts.append(f"[{' | '.join(entry.choices)}]")
    default = str(entry.default).strip("()[]").rstrip(",").replace("'", "")  # a tuple's items
    if default == "True":  # a switch, which its own name turns on
        default = entry.positive_names[0]
    if default not in NOTHING:
        parts.append(f"[default: {default}]")
    if entry.required:
        parts.append("[required]")
    return " ".join(part for part in parts if part)


def _label(entry: HelpEntry) -> str:
    metavar = entry.metavar if entry.metavar != "CHOICE" else "NAME"
    if entry.positional_label or not metavar:
        return ", ".join(entry.display_labels)
    return f"{', '.join(entry.display_labels)} {metavar}"


def _name(entry: HelpEntry) -> str:
    return entry.names[0].lstrip("-")


def _plain(text: RenderableType | None) -> str:
    """The text without styles, in the lines that it has."""
    if text is None or isinstance(text, str):
        return (text or "").rstrip()
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=10_000, force_terminal=False, no_color=True, highlight=False).print(text, end="")
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).rstrip()


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return max(min(shutil.get_terminal_size().columns, WIDEST), 40)


def _print(console: Console, lines: Iterable[str]) -> None:
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
