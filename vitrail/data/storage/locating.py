"""Where the images lie that annotations name: data sets are moved, exported and unpacked one level too deep."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from vitrail import console
from vitrail.data.indexing.spelling import alike, other_forms
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.source import split_called

_ASKED = 64  # images of which a folder is asked before it is searched
NO_PICTURES = re.compile(r"(^|[\\/])(panoptic|annotation|mask|label|segmentation|gtfine)[^\\/]*[\\/]", re.IGNORECASE)
"""In the path of an image that shows classes or objects."""
_MOST = 1_000_000  # files that a search looks at


def path_fault(name: object) -> str | None:
    """Why this cannot be the name of a file, if so."""
    if not isinstance(name, str) or not name or "\0" in name:
        return f"that names no file: {name!r}"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return f"that no file can have: {name!r}"
    return None


def locate(names: Sequence[str], near: Sequence[Path], search: Path, split: str = "") -> tuple[Path, list[bytes]]:
    """The folder that holds most of the images, and the path of each: relative to that folder, or absolute where it
    lies elsewhere; of one that is nowhere, as if it were in that folder.

    A name is taken as a path in the folder of ``near`` that holds most of the images, then in the others, and then by
    the end of its path among all images below ``search``; of several that end alike, the one in a folder of the split.

    Args:
        near: folders, the likely ones first.
    """
    if not names:
        return near[0], []
    spelled = [_spellings(name) for name in names]
    asked = np.unique(np.linspace(0, len(names) - 1, _ASKED).astype(int)).tolist()
    hits = {folder: sum(_inside(folder, spelled[i]) is not None for i in asked) for folder in near}
    folders = sorted((folder for folder in near if hits[folder]), key=lambda folder: -hits[folder])
    found = [_first(folders, each) for each in spelled]
    lost = [i for i, path in enumerate(found) if path is None]
    if lost:
        below = _Below(search, split)
        for i in lost:
            found[i] = below.find(spelled[i]) or _first([each for each in near if not hits[each]], spelled[i])
    root = folders[0] if folders else near[0]
    inside = os.fsencode(os.path.join(root, ""))
    paths = [os.fsencode(names[i]) if path is None else _relative(path, inside) for i, path in enumerate(found)]
    if gone := [names[i] for i, path in enumerate(found) if path is None]:
        what = f"{len(gone):,} of {len(names):,} images are not found in {search}"
        console.warn(f"{what}, such as {gone[0]!r}; name their folder by root")
    return root, paths


def _relative(path: bytes, folder: bytes) -> bytes:
    return path[len(folder) :] if path.startswith(folder) else os.path.abspath(path)


def _spellings(name: str) -> list[str]:
    """A name as it is written, with Windows' separators as others, and out of an address of Label Studio's."""
    found = [name]
    if "\\" in name:
        found.append(name.replace("\\", "/"))
    if "?" in name and (inner := parse_qs(urlsplit(name).query).get("d")):
        found.append(inner[0])
    elif "://" in name:
        found.append(urlsplit(name).path.lstrip("/"))
    if "%" in found[-1]:
        found.append(unquote(found[-1]))
    return found + [form for each in found for form in other_forms(each)]


def _first(folders: Sequence[Path], spelled: list[str]) -> bytes | None:
    return next((path for folder in folders if (path := _inside(folder, spelled)) is not None), None)


def _inside(folder: Path, spelled: list[str]) -> bytes | None:
    for each in spelled:
        path = os.path.join(folder, each)
        if "\0" not in path and os.path.isfile(path):
            return os.fsencode(path)
    return None


class _Below:
    """All images below a folder, by the name of their file."""

    def __init__(self, root: Path, split: str) -> None:
        self._root, self._split = os.fsdecode(root), split
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in _images_below(self._root):
            name = alike(os.path.basename(path))
            self._by_name.setdefault(name, []).append(path)
            self._by_stem.setdefault(os.path.splitext(name)[0], []).append(path)

    def find(self, spelled: list[str]) -> bytes | None:
        """The image whose path ends most like one of the spellings; None where there is none, or two are alike.

        A name without the suffix of an image is that of one with any.
        """
        for name in reversed(spelled):
            parts = re.split(r"/+", name)
            key = alike(parts[-1])
            candidates = self._by_name.get(key, [])
            if not candidates and not key.endswith(SUFFIXES) and (stems := self._by_stem.get(key)):
                candidates, parts[-1] = stems, os.path.basename(stems[0])
                if len({os.path.splitext(each)[1] for each in stems}) > 1:
                    continue
            best = self._best(candidates, parts)
            if best is not None:
                return os.fsencode(os.path.join(self._root, best))
        return None

    def _best(self, candidates: list[str], parts: list[str]) -> str | None:
        for choose in (
            lambda path: _common_end(path.split(os.sep), parts),
            lambda path: int(not NO_PICTURES.search(path)),
            lambda path: int(any(split_called(part) == self._split for part in path.split(os.sep))),
            lambda path: int(os.path.basename(path) == parts[-1]),
        ):
            if len(candidates) > 1:
                most = max(map(choose, candidates))
                candidates = [path for path in candidates if choose(path) == most]
        return candidates[0] if len(candidates) == 1 else None


def _common_end(path: list[str], parts: list[str]) -> int:
    pairs = zip(reversed(path), reversed(parts), strict=False)
    same = [alike(one) == alike(other) for one, other in pairs]
    return same.index(False) if False in same else len(same)


def _images_below(root: str) -> Iterator[str]:
    """Relative paths; links to folders are not followed."""
    seen = 0
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(each for each in inner if not each.startswith("."))
        inside = os.path.relpath(folder, root)
        for name in files:
            seen += 1
            if name.lower().endswith(SUFFIXES):
                yield name if inside == "." else os.path.join(inside, name)
        if seen > _MOST:
            return
