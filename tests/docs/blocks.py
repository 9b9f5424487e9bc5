"""The code blocks of a Markdown page: read them, or run them as a reader would.

    python tests/docs/blocks.py docs/backbone.md

Blocks fenced as ``bash`` or ``python`` run in the order of the page in the current folder; python blocks share one
namespace, bash blocks start anew. A word after the language decides otherwise: ``no-run`` blocks are for reading only,
and ``title=NAME`` blocks are written to the file of that name.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>[^`]*)$")
LANGUAGES = {"bash": "bash", "sh": "bash", "python": "python"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is written to (if any), its text, and the line it begins on."""

    language: str
    title: str | None
    code: str
    line: int
    runs: bool


def shown(page: Path) -> list[Block]:
    """All bash and python blocks, in order."""
    return [
        Block(LANGUAGES[words[0]], _title(words), code, line, not {"no-run", "text"}.intersection(words))
        for words, code, line in _fenced(page.read_text(encoding="utf-8"))
        if words and words[0] in LANGUAGES
    ]


def blocks(page: Path) -> list[Block]:
    """Those that a reader would run or write."""
    return [block for block in shown(page) if block.runs]


def run(page: Path) -> None:
    """Run the page's blocks in the current folder; a failing one ends with its exception or its exit code."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        print(f"--- {page.name}:{block.line} ({block.language})", flush=True)
        if block.title is not None:
            file = Path(block.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            finished = subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], check=False)
            if finished.returncode:
                sys.exit(f"{page.name}:{block.line}: bash ended with {finished.returncode}")
        else:
            padding = "\n" * (block.line - 1)  # a traceback names the line of the page
            exec(compile(padding + block.code, str(page), "exec"), namespace)


def normalised(block: Block) -> tuple[str, str | None, list[str]]:
    """What must agree between translations: everything but comments and empty lines."""
    lines = (_without_comment(line).rstrip() for line in block.code.splitlines())
    return block.language, block.title, [line for line in lines if line]


def _fenced(text: str) -> Iterator[tuple[list[str], str, int]]:
    """(words of the info string, code, number of its first line) of every fenced block."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for start, line in lines:
        if not (opening := FENCE.match(line)):
            continue
        indent, marks = opening["indent"], opening["marks"]
        code = []
        for _, inner in lines:
            if inner.strip().startswith(marks) and not inner.strip().strip(marks[0]):
                break
            code.append(inner.removeprefix(indent))
        else:
            raise ValueError(f"the fence of line {start} is never closed")
        yield opening["info"].split(), "".join(f"{line}\n" for line in code), start + 1


def _title(words: list[str]) -> str | None:
    return next((word.removeprefix("title=").strip('"') for word in words if word.startswith("title=")), None)


def _without_comment(line: str) -> str:
    """The line up to a ``#`` that follows a space or begins it, outside quotes."""
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line


if __name__ == "__main__":
    sys.path[0] = ""  # as in an interactive session: modules lie in the current folder
    run(Path(sys.argv[1]).resolve())
