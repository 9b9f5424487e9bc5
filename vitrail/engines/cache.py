"""Graphs and measurements kept in the user's cache, so that a model is traced and exported once.

An entry is a folder that appears complete or not at all, so several processes can write concurrently. When all entries
together exceed the limit, the least recently used ones are removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail import files
from vitrail.console import note
from vitrail.errors import UserError

LIMIT_GIB = 4.0  # of all entries; the environment variable changes it
LIMIT_VARIABLE = "VITRAIL_CACHE_GIB"
ABANDONED = 24 * 3600  # seconds after which an unfinished entry was left by a process that is gone


def folder() -> Path:
    """Where the entries are: ``engines/`` in the user's cache."""
    return files.cache_dir() / "engines"


def find(key: str) -> Path | None:
    """The folder of an entry, which counts as used now; None: there is none."""
    entry = folder() / key
    with suppress(OSError):
        if entry.is_dir():
            os.utime(entry)
            return entry
    return None


@contextmanager
def adding(key: str) -> Iterator[Path]:
    """Yield an empty folder to write an entry in; it is added when all went well.

    Where another process was faster, its entry stays. Where the cache cannot be written, the folder is a temporary one,
    with a note.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".", dir=folder()))
    except OSError as error:
        note(f"{folder()} cannot be written ({error.strerror}), so nothing is kept for the next time")
        with tempfile.TemporaryDirectory(prefix="vitrail-") as temporary:
            yield Path(temporary)
        return
    try:
        yield unfinished
        with suppress(OSError):  # it is there already
            os.rename(unfinished, folder() / key)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _shrink(key)


def added(key: str) -> Path | None:
    """The folder of a new entry that is empty; None: the cache cannot be written."""
    with adding(key):
        pass
    return find(key)


def write(file: Path, value: object) -> None:
    """JSON in an entry; where the disk is full, what it holds is found out again the next time."""
    with suppress(UserError):
        files.write_json(file, value)


def discard(key: str) -> None:
    """Remove an entry that cannot be read."""
    shutil.rmtree(folder() / key, ignore_errors=True)


def _shrink(newest: str) -> None:
    """Remove what was not used for longest until the limit holds; the newest entry stays."""
    entries: list[tuple[float, int, Path]] = []
    for entry in folder().iterdir():
        with suppress(OSError):  # another process removes it, too
            used = entry.stat().st_mtime
            if not entry.name.startswith("."):
                entries.append((used, sum(part.stat().st_size for part in entry.iterdir()), entry))
            elif time.time() - used > ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)
    total, limit = sum(size for _, size, _ in entries), _limit()
    for _, size, entry in sorted(entries):
        if total <= limit:
            return
        if entry.name != newest:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


def _limit() -> float:
    """Bytes."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gib = float(text) if text else LIMIT_GIB
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        raise UserError(f"{LIMIT_VARIABLE}={text!r} is no size; give a number of GiB, such as {LIMIT_GIB:g}")
    return gib * 2**30
