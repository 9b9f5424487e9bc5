"""File systems of a few MB, where the tests may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """An empty file system at ``place``; the test is skipped where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(place)]
    if (
        sys.platform != "linux"
        or shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, *, leave: int) -> None:
    """Leave so many kB, with a file that can be removed."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    with (disk / FILLER).open("wb") as file:
        left = max(0, free - leave * 1024)
        while left:
            left -= file.write(bytes(min(left, 2**20)))


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file below it but the filler, by its path."""
    files = (each for each in folder.rglob("*") if each.is_file() and each.name != FILLER)
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}
