"""What others chose is shown as text in a model card."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from vitrail.report import model_card
from vitrail.report.run_reader import RunReader

NAMES = [
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert)",
    "`x`",
    "a | b",
    "**bold**",
    "<!-- ",
    "a\nb",
    "a_b",
    "&lt;",
]


@pytest.fixture
def card(runs: dict[str, Path], tmp_path: Path) -> str:
    folder = Path(shutil.copytree(next(iter(runs.values())), tmp_path / "<b>run</b>"))
    facts = json.loads((folder / "data.json").read_text())
    facts["classes"] = NAMES
    (folder / "data.json").write_text(json.dumps(facts))
    (folder / "command.txt").write_text("vitrail train '` <script>alert(1)</script> `'\n")
    return model_card.render(RunReader(folder), None)


def test_names_are_text(card: str) -> None:
    prose = card.split("---\n", 2)[2]
    outside = re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", prose, flags=re.DOTALL)
    assert "<" not in outside.replace("&lt;", "")
    (line,) = [each for each in prose.splitlines() if each.startswith("- classes: ")]
    assert r"\[a\](javascript:alert)" in line
    assert r"a \| b" in line
    assert r"\*\*bold\*\*" in line
    assert r"a\_b" in line
    assert "&amp;lt;" in line
    assert r"a\\nb" in line


def test_a_command_with_backticks_stays_code(card: str) -> None:
    assert "- command: ``vitrail train '` <script>alert(1)</script> `'``" in card
