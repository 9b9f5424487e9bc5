"""The cached index: what a scan of a million files found, kept in the user's cache folder as plain columns.

A table is reused while every folder or file that it watched is unchanged; it is never written next to the user's data.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.errors import UserError
from vitrail.files import cache_dir, replacing

Table = dict[str, np.ndarray]
VERSION = 1
_SETTLED = 2 * 10**9  # ns; younger changes may hide another one within the clock's tick, so they are not cached


@dataclass(frozen=True)
class Strings:
    """A column of byte strings: ``blob`` uint8 and ``offsets`` int64 (N + 1,)."""

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, values: Iterable[bytes]) -> Strings:
        values = list(values)
        offsets = np.zeros(len(values) + 1, np.int64)
        np.cumsum([len(value) for value in values], out=offsets[1:])
        return cls(np.frombuffer(b"".join(values), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        blob, offsets = self.blob.tobytes(), self.offsets.tolist()
        return (blob[start:end] for start, end in itertools.pairwise(offsets))

    def columns(self, name: str) -> Table:
        """The two arrays, named for a table."""
        return {f"{name}.blob": self.blob, f"{name}.offsets": self.offsets}

    @classmethod
    def from_table(cls, table: Table, name: str) -> Strings:
        return cls(table[f"{name}.blob"], table[f"{name}.offsets"])


def cached(key: str, build: Callable[[], tuple[Table, list[bytes]]]) -> Table:
    """The table of ``build``, which also returns the paths to watch; from the cache while those are unchanged.

    A folder changes when an entry is added, removed or renamed; a file when it is written to.
    """
    path = cache_dir() / "index" / f"{hashlib.sha256(f'{VERSION} {key}'.encode()).hexdigest()[:32]}.npz"
    if (table := _load(path)) is not None:
        return table
    started = time.time_ns()
    table, watched = build()
    stamps = _stamps(watched)
    if stamps is not None and stamps[:, 0].max(initial=0) < started - _SETTLED:
        _save(path, table | Strings.of(watched).columns("watched") | {"watched.stamps": stamps})
    return table


class Stamps(NamedTuple):
    """Of samples, int64 (N,): bytes of their files (of arrays a checksum), and times of last change in ns."""

    sizes: np.ndarray
    times: np.ndarray


def file_stamps(paths: Iterable[bytes]) -> Stamps:
    """Of files; -1 of one that is gone."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            found.append((-1, -1))
        else:
            found.append((status.st_size, status.st_mtime_ns))
    columns = np.array(found, np.int64).reshape(-1, 2)
    return Stamps(columns[:, 0], columns[:, 1])


def _stamps(paths: Iterable[bytes]) -> np.ndarray | None:
    """Modification time in ns, size and inode of each path, int64 (N, 3); None when one is gone."""
    try:
        stats = [os.stat(path) for path in paths]
    except (OSError, ValueError):
        return None
    return np.array([(s.st_mtime_ns, s.st_size, s.st_ino) for s in stats], np.uint64).view(np.int64).reshape(-1, 3)


def _load(path: Path) -> Table | None:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            table = dict(file)
        stamps = _stamps(Strings.from_table(table, "watched"))
        return table if stamps is not None and np.array_equal(stamps, table["watched.stamps"]) else None
    except Exception:  # absent, or damaged in whatever way: build it again
        return None


def _save(path: Path, table: Table) -> None:
    with (
        suppress(UserError),  # a cache that cannot be written costs time, nothing else
        replacing(path, durable=False) as temporary,
        open(temporary, "wb") as file,
    ):
        np.savez(file, allow_pickle=False, **table)
