"""One data source a file. Each module is a :class:`SourceModule`; a third party's is named by its dotted name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vitrail.data.source import Source, SourceConfig


class SourceModule(Protocol):
    """What the module of a source offers."""

    def matches(self, spec: str) -> bool:
        """Whether the path ``spec`` is data of this source; true of at most one source but ``folder``."""

    def load(self, config: SourceConfig) -> dict[str, Source]:
        """The splits by name.

        Raises:
            UserError: the data is not there or breaks a rule.
        """
