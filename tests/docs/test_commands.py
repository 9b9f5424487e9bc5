"""Every ``vitrail`` command that a page shows is one that the command line understands, also where it is not run."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

import pytest
from blocks import shown
from cyclopts import App

from vitrail.cli import _stdin_path, build

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENDS = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>"}  # of a command, as tokens of a shell


def commands(page: Path) -> list[list[str]]:
    """The arguments of each, as a shell splits them; a glob stays."""
    found = []
    for block in shown(page):
        if block.language == "bash":
            for line in block.code.replace("\\\n", " ").splitlines():
                tokens = shlex.split(line, comments=True)
                while "vitrail" in tokens:
                    tokens = tokens[tokens.index("vitrail") + 1 :]
                    end = next((i for i, token in enumerate(tokens) if token in ENDS), len(tokens))
                    found.append(tokens[:end])
    return found


@cache
def _app() -> App:
    return build()


def understand(tokens: list[str]) -> None:
    tokens = [_stdin_path(token) for token in tokens]
    _app().parse_args(tokens, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_are_understood(page: Path) -> None:
    for tokens in commands(page):
        understand(tokens)


@pytest.mark.parametrize("wrong", ["predict run photos --enginee torch", "trian photos", "predict"])
def test_a_wrong_one_is_not(wrong: str) -> None:
    with pytest.raises(Exception, match=r"(?i)unknown|unused|requires|missing"):
        understand(wrong.split())
