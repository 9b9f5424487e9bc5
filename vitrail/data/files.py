"""Sources whose samples are image files on disk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitrail import console
from vitrail.data.decode import BadImage
from vitrail.data.formats import MAX_FILE_BYTES
from vitrail.data.source import Source


class Paths(Protocol):
    """A column of paths, as the bytes that the file system knows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Files(Source):
    """Image files at ``paths``, relative to ``root``."""

    root: bytes
    paths: Paths

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        """Where the file lies."""
        return Path(os.fsdecode(os.path.join(self.root, self.paths[index])))

    def name(self, index: int) -> str:
        return console.printable(str(self.path(index)))

    def read(self, index: int) -> bytes:
        return read_regular(os.path.join(self.root, self.paths[index]))


def read_regular(path: bytes | str | Path, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of a regular file, from ``offset``; never blocks on a FIFO and never reads past the size cap.

    Raises:
        BadImage: missing, unreadable, not a regular file, too large, or shorter than ``size``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("is not a regular file")
            wanted = status.st_size - offset if size is None else size
            if wanted > MAX_FILE_BYTES:
                raise BadImage(f"has {wanted:,} bytes, more than the limit of {MAX_FILE_BYTES:,}")
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if size is not None and len(data) < size:
        raise BadImage(f"ends early: {len(data):,} of {size:,} bytes")
    return data
