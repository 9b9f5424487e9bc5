"""One format for spatial targets a file. Each module is a :class:`WriterModule`; the source of that name reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vitrail.data.source import Source


class WriterModule(Protocol):
    """What the module of a writer offers."""

    KINDS: tuple[str, ...]
    """The target kinds that the format holds, the fullest first."""

    def write(self, splits: Mapping[str, Source], folder: Path) -> list[str]:
        """Write the splits into ``folder``; the returned lines say what the format cannot hold."""
