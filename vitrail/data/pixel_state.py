"""Whether the pixels and the maps of a data set are still those of an earlier session, without decoding them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from vitrail.data.indexing.index import Stamps
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source

MOST_STAMPS, READ = 100_000, 64  # samples of a split, evenly spaced
State: TypeAlias = "dict[str, str]"
"""SHA-256s of a split: ``sizes`` and ``times`` of up to 100,000 samples, and the ``content`` of 64 of them."""
Verdict = Literal["same", "touched", "changed"]


@runtime_checkable
class Stamped(Protocol):
    """A column of targets that lie in files."""

    def stamps(self, indices: np.ndarray) -> Stamps: ...


def state_of(source: Source) -> State:
    """The state of a split's files now."""
    indices = _spaced(len(source), MOST_STAMPS)
    columns = [source.stamps(indices)]
    if isinstance(source.targets, Stamped):
        columns.append(source.targets.stamps(indices))
    content = hashlib.sha256()
    for index in _spaced(len(source), READ).tolist():
        try:
            read = source.read(index)
        except BadImage as error:
            read = str(error).encode()
        content.update(hashlib.sha256(read if isinstance(read, bytes) else read.tobytes()).digest())
    return {
        "sizes": _digest([column.sizes for column in columns]),
        "times": _digest([column.times for column in columns]),
        "content": content.hexdigest(),
    }


def compare(before: Mapping[str, State], now: Mapping[str, State]) -> Verdict:
    """What has happened to the files of all splits in between: ``touched`` are those with another time alone, whose
    samples read the same."""
    both = [(before[split], now[split]) for split in before.keys() & now.keys()]
    if any(old.get(key) != new.get(key) for old, new in both for key in ("sizes", "content")):
        return "changed"
    return "same" if all(old.get("times") == new.get("times") for old, new in both) else "touched"


def _spaced(number: int, most: int) -> np.ndarray:
    return np.linspace(0, number - 1, min(number, most)).astype(np.int64)


def _digest(columns: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(column).tobytes() for column in columns)).hexdigest()
