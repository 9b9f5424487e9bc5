"""Sources whose samples are image files on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Stamps, file_stamps
from vitrail.data.media.read import read_regular
from vitrail.data.media.reading import Reading
from vitrail.data.media.windows import WindowedTiff, open_windows
from vitrail.data.source import Source


class Paths(Protocol):
    """A column of paths, as bytes, as the file system returns them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


def cased(path: Path) -> Path:
    """The path, or the one with its suffix in capitals where only that is there."""
    loud = path.with_name(path.name[: len(path.name) - len(path.suffix)] + path.suffix.upper())
    return loud if not os.path.lexists(path) and os.path.lexists(loud) else path


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
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

    def windows(self, index: int, channels: int, reading: Reading) -> WindowedTiff | None:
        return open_windows(self.path(index), channels, reading)

    def stamps(self, indices: np.ndarray) -> Stamps:
        return file_stamps(os.path.join(self.root, self.paths[index]) for index in indices.tolist())
