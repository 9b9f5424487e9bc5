"""An image folder packed as one ``.zip``, with the rules of ``folder``; read in place, never extracted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.data.indexing.listing import SKIPPED, Listing, skipped_by_suffix
from vitrail.data.indexing.system_files import within_system
from vitrail.data.media.formats import candidate_suffixes
from vitrail.data.source import Source, SourceConfig
from vitrail.data.sources.folder import split_by_folder
from vitrail.data.storage.archives import Archived, members

_INTEGERS = ("offset", "stored", "size", "deflated")


def matches(spec: str) -> bool:
    return Path(spec).suffix.lower() == ".zip"


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for an archive that is refused and for every broken rule of an image folder."""
    path = config.path.resolve()
    table = cached(f"zip {len(SKIPPED)} {len(candidate_suffixes())} {path}", lambda: (_scan(path), [bytes(path)]))
    listing = Listing.from_table(table)
    listing.note_skipped(str(path))
    files = Archived(
        archives=(str(path),),
        names=Strings.from_table(table, "names"),
        columns={name: table[name] for name in ("archive", *_INTEGERS)},
        targets=np.empty(0, np.float32),
        kind="none",
        classes=(),
    )
    return split_by_folder(files, listing, config)


def _scan(path: Path) -> Table:
    listed = sorted(members(path), key=lambda member: member.name.rpartition(b"/")[::2])
    own = [m for m in listed if not within_system(m.name)]
    visible = [m for m in own if not any(part.startswith(b".") for part in m.name.split(b"/"))]
    suffixes, candidates = [b"." + m.name.rpartition(b".")[2].lower() for m in visible], candidate_suffixes()
    images = [m for m, suffix in zip(visible, suffixes, strict=True) if suffix in candidates]
    parents = [m.name.rpartition(b"/")[0] for m in images]
    folders = {b""}
    for parent in set(parents):
        parts = parent.split(b"/")
        folders.update(b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    ordered = sorted(folders)
    number = {folder: i for i, folder in enumerate(ordered)}
    listing = Listing(
        Strings.of(ordered),
        Strings.of([m.name.rpartition(b"/")[2] for m in images]),
        np.array([number[parent] for parent in parents], np.int32),
        skipped_by_suffix([suffix for suffix in suffixes if suffix not in candidates], len(listed) - len(own)),
    )
    columns = {name: np.array([getattr(m, name) for m in images], np.int64) for name in _INTEGERS}
    columns["archive"] = np.zeros(len(images), np.int32)
    return listing.table() | Strings.of([m.name for m in images]).columns("names") | columns
