from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.indexing import index
from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.files import cache_dir


@given(st.lists(st.binary(max_size=12)))
def test_strings_hold_any_bytes(values: list[bytes]) -> None:
    column = Strings.of(values)
    assert len(column) == len(values)
    assert list(column) == values
    assert [column[i] for i in range(len(values))] == values


class Scan:
    """Counts how often the folder is really read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __call__(self) -> tuple[Table, list[bytes]]:
        self.count += 1
        return Strings.of(sorted(os.listdir(bytes(self.folder)))).columns("names"), [bytes(self.folder)]


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").touch()
    settle(folder)
    return Scan(folder)


def settle(folder: Path) -> None:
    """As if the folder had last changed a minute ago."""
    os.utime(folder, (time.time() - 60, time.time() - 60))


def names(scan: Scan) -> list[bytes]:
    return list(Strings.from_table(cached("key", scan), "names"))


def test_the_second_start_reads_the_cache(scan: Scan) -> None:
    assert names(scan) == names(scan) == [b"a"]
    assert scan.count == 1


def test_a_changed_folder_is_read_again(scan: Scan) -> None:
    names(scan)
    (scan.folder / "b").touch()
    assert names(scan) == [b"a", b"b"]
    assert scan.count == 2


def test_a_folder_that_changed_just_now_is_not_cached(scan: Scan) -> None:
    os.utime(scan.folder)
    names(scan)
    names(scan)
    assert scan.count == 2


def test_a_folder_that_vanishes_is_read_again(scan: Scan) -> None:
    names(scan)
    scan.folder.rename(scan.folder.with_name("old"))
    with pytest.raises(FileNotFoundError):
        names(scan)


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: d[:-200] + bytes(200)])
def test_a_damaged_cache_is_rebuilt(scan: Scan, damage: object) -> None:
    names(scan)
    (file,) = (cache_dir() / "index").iterdir()
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert names(scan) == [b"a"]
    assert scan.count == 2
    assert names(scan) == [b"a"]
    assert scan.count == 2


def test_a_cache_that_cannot_be_written_costs_only_time(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", "/proc/none")
    assert names(scan) == names(scan) == [b"a"]
    assert scan.count == 2


def test_no_pickle_is_ever_read(scan: Scan) -> None:
    names(scan)
    (file,) = (cache_dir() / "index").iterdir()
    with open(file, "wb") as stream:
        np.savez(stream, **{"watched.blob": np.array([{}], dtype=object)})
    assert names(scan) == [b"a"]


def test_a_new_version_does_not_read_old_tables(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    names(scan)
    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    names(scan)
    assert scan.count == 2
