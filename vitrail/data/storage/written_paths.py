"""Files as tables and annotations write them: with backslashes, without suffix, or without the folder they lie in."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vitrail import console
from vitrail.data.indexing.listing import scan
from vitrail.data.indexing.spelling import other_forms
from vitrail.data.indexing.splits import split_called, words
from vitrail.data.indexing.system_files import is_system
from vitrail.data.media.formats import candidate_suffixes
from vitrail.errors import UserError

_LOOKED_AT = 64  # of many paths, to see whether they are written as they lie
_IMAGE_WORDS = frozenset(
    (
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics"),
        *("jpg", "jpeg", "png", "tif", "data", "files"),
    )
)


def portable(root: bytes, path: bytes) -> bytes:
    """A path that was written on Windows, ``images\\0.jpg``, with slashes, and one whose accents are encoded otherwise
    than those of the file, as macOS does it, as the file has them; one that exists as it is stays."""
    if (b"\\" not in path and path.isascii()) or os.path.lexists(os.path.join(root, path)):
        return path
    text = os.fsdecode(path.replace(b"\\", b"/"))
    spelled = [os.fsencode(each) for each in (text, *other_forms(text))]
    return next((each for each in spelled if os.path.lexists(os.path.join(root, each))), spelled[0])


def find_files(root: bytes, paths: Sequence[bytes], split: str) -> list[bytes]:
    """The paths from ``root``; of a table whose rows are not found as written, each file by its name or stem.

    It is looked for in ``root`` and in folders of it that are named for images or for the split, as ``train_images``;
    where none is there, in all that are of no other split.
    What is not found stays as it is.

    Raises:
        UserError: one name is that of several files.
    """
    written = [portable(root, path) for path in paths]
    step = max(1, len(written) // _LOOKED_AT)
    if any(os.path.lexists(os.path.join(root, path)) for path in written[::step]):
        return written
    found: list[bytes | None] = []
    for anywhere in (False, True):
        known = _known_files(root, split, anywhere=anywhere)
        found = [_find(path, known, root) for path in written]
        if any(found):
            break
    num_found = sum(path is not None for path in found)
    if num_found:
        place = os.fsdecode(os.path.dirname(next(filter(None, found))) or b".")
        console.note(f"{os.fsdecode(root)}: {num_found:,} of {len(found):,} {split} images found by name, in {place}")
    return [path if other is None else other for path, other in zip(written, found, strict=True)]


def _find(path: bytes, known: dict[bytes, list[bytes]], root: bytes) -> bytes | None:
    name = os.path.basename(path)
    places = known.get(name.lower()) or known.get(os.path.splitext(name)[0].lower()) or []
    if len(places) > 1:
        same_folder = [place for place in places if (b"/" + place).endswith(b"/" + path)]
        places = same_folder or places
    if len(places) > 1:
        raise UserError(
            f"{os.fsdecode(path)!r} of the table may be {os.fsdecode(places[0])!r} or "
            f"{os.fsdecode(places[1])!r} in {os.fsdecode(root)}; write paths with their folders, or give root="
        )
    return places[0] if places else None


def _known_files(root: bytes, split: str, *, anywhere: bool = False) -> dict[bytes, list[bytes]]:
    """Images by name and by stem in lower case, as paths from ``root``; those of the folders of the split first."""
    try:
        entries = sorted(os.scandir(root or b"."), key=lambda entry: entry.name)
    except OSError:
        return {}
    suffixes = candidate_suffixes()
    own = [e.name for e in entries if e.is_file() and os.path.splitext(e.name)[1].lower() in suffixes]
    groups: list[list[bytes]] = [[], own, []]  # of the split, of the folder itself, of others
    for entry in entries:
        name = os.fsdecode(entry.name)
        if not entry.is_dir() or is_system(entry.name) or name.startswith("."):
            continue
        meant = split_called(name)
        if meant not in (None, split) or not (anywhere or meant or _IMAGE_WORDS.intersection(words(name))):
            continue
        listing = scan(os.fsdecode(entry.path))
        places = [os.path.join(entry.name, listing[i]) for i in range(len(listing))]
        groups[0 if meant == split else 2] += places
    found: dict[bytes, list[bytes]] = {}
    for group in groups:
        new: dict[bytes, list[bytes]] = {}
        for place in group:
            base = os.path.basename(place).lower()
            for key in {base, os.path.splitext(base)[0]}:
                new.setdefault(key, []).append(place)
        found = new | found
    return found
