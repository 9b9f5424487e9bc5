"""What ``data.json`` of a run says of its data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vitrail.config import to_dict
from vitrail.data import Data, Source, SourceConfig
from vitrail.data.pixel_state import state_of
from vitrail.train.run import Run


def describe(run: Run, data: Data) -> dict[str, object]:
    """The content of ``data.json``: the hash of the index, classes, counts, and unreadable files so far."""
    splits = dict(data.splits.items())
    fingerprints = {name: source.fingerprint() for name, source in splits.items()}
    inside = {name: content_hash(source, run.data.source) for name, source in splits.items()}
    return {
        "source": to_dict(run.data.source),
        "sha256": hashlib.sha256(repr(fingerprints).encode()).hexdigest(),
        "content_sha256": hashlib.sha256(repr(inside).encode()).hexdigest(),
        "pixels": {name: state_of(source) for name, source in splits.items()},
        "kind": data.kind,
        "classes": list(data.classes),
        "counts": {name: len(source) for name, source in splits.items()},
        "bad_files": {},
    }


def content_hash(source: Source, config: SourceConfig) -> str:
    """The fingerprint of a source, the same wherever its folder lies."""
    if not config.location:
        return source.fingerprint()
    path = Path(config.root or config.location).expanduser()
    folder = path if path.is_dir() else path.parent
    candidates = [str(folder), str(folder.resolve())]
    first = source.name(0) if len(source) else ""
    return source.fingerprint(next((each for each in candidates if first.startswith(f"{each}/")), ""))
