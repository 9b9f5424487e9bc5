from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import normalised, shown

ROOT = Path(__file__).resolve().parents[2]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
TREE_LINE = re.compile(r"^(?P<indent>[ │├└─]*)(?P<names>[^ ]+(\.[a-z]+|/)( [^ ]+(\.[a-z]+|/))*)(?= |$)")


@pytest.mark.docs
@pytest.mark.timeout(600)  # it starts some twenty programs
def test_readme_runs(run_page):
    run_page(README)


def test_both_languages_show_the_same_code():
    assert [normalised(block) for block in shown(CHINESE)] == [normalised(block) for block in shown(README)]


@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_files_of_the_tree_exist(page):
    paths = tree(page.read_text(encoding="utf-8"))
    assert len(paths) > 10, "the README has no file tree"
    assert [path for path in paths if not (ROOT / path).exists()] == []


def tree(text: str) -> list[str]:
    """The paths of the block that begins with ``vitrail/``: on each line files and folders, then what they are."""
    body = re.search(r"^```\w*\n(vitrail/.*?)^```", text, re.MULTILINE | re.DOTALL)
    paths: list[str] = []
    folders: list[tuple[int, str]] = []
    for line in body[1].splitlines() if body else ():
        match = TREE_LINE.match(line)
        assert match is not None, f"no names on the line {line!r}"
        indent, names = len(match["indent"]), match["names"].split()
        folders = [(depth, name) for depth, name in folders if depth < indent]
        parent = "".join(name for _, name in folders)
        paths += [parent + each for name in names for each in expanded(name)]
        if names[0].endswith("/"):
            folders.append((indent, names[0]))
    return paths


def expanded(name: str) -> list[str]:
    """``a/{b,c}.py`` → ``a/b.py``, ``a/c.py``."""
    if (braces := re.search(r"\{([^}]*)\}", name)) is None:
        return [name]
    return [f"{name[: braces.start()]}{each}{name[braces.end() :]}" for each in braces[1].split(",")]
