"""Globs whose folders hold brackets (ultralytics#24257: ``"a [1]/*.png"`` matched nothing).

Siblings looked at: brackets that are meant as a pattern, several such folders, ``**``, a file of such a name, shards.
"""

from __future__ import annotations

import glob
from pathlib import Path

from wild_files import draw

from vitrail.files import literal_first
from vitrail.terminal.pictures import pictures


def found(*patterns: str) -> list[str]:
    return sorted(Path(str(each)).name for each in pictures(patterns))


def test_a_folder_that_exists_stands_for_itself(tmp_path: Path) -> None:
    draw(tmp_path, "a [1]/x.png", "a [1]/b [2]/y.png", "a 1/z.png", "a [1]/q[3].png")
    base = str(tmp_path)
    assert found(f"{base}/a [1]/*.png") == ["q[3].png", "x.png"]
    assert found(f"{base}/a [1]/b [2]/*.png") == ["y.png"]
    assert found(f"{base}/a [1]/**/*.png") == ["q[3].png", "x.png", "y.png"]
    assert found(f"{base}/a [1]/q[3].png") == ["q[3].png"]

    assert sorted(glob.glob(literal_first(f"{base}/*/z.png"))) == [f"{base}/a 1/z.png"]


def test_a_pattern_stays_one(tmp_path: Path) -> None:
    draw(tmp_path, "a1/x.png", "a2/y.png", "b1/z.png")
    assert found(f"{tmp_path}/a[12]/*.png") == ["x.png", "y.png"]


def test_relative_ones(tmp_path: Path, monkeypatch) -> None:
    draw(tmp_path, "a [1]/x.png")
    monkeypatch.chdir(tmp_path)
    assert found("a [1]/*.png") == ["x.png"]
    assert literal_first("*.png") == "*.png"
