"""Pictures with their true, larger or cleaner ones, in two folders: ``hr/`` and ``lr/``.

The folders may also be called as the benchmarks call them (``HR``, ``LR``, ``GT``, ``clean`` and ``noisy``,
``DIV2K_train_HR`` and ``DIV2K_train_LR_bicubic/X2``), below or above folders for the splits; or pictures of both kinds
lie together, as ``x_HR.png`` and ``x_LR.png``. Names are the same but for such words and ``x2``, ``x3``, ``x4``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.listing import scan
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.files import Files
from vitrail.data.storage.pictures import PictureFiles
from vitrail.data.targets import Labels
from vitrail.errors import UserError

KIND = "image"
TRUE = re.compile(r"(?:^|[_\-.])(hr|gt|clean|target|high)(?=$|[_\-.])", re.IGNORECASE)
SEEN = re.compile(r"(?:^|[_\-.])(lr|noisy|input|low)(?=$|[_\-.])", re.IGNORECASE)
MARKS = re.compile(r"(?:^|[_\-.]?)(srf[_\-]?\d|x\d|bicubic)(?=$|[_\-.])", re.IGNORECASE)
DEEPEST = 3  # folders below the one that is given


@dataclass(frozen=True)
class Pair:
    """Where the pictures of a split lie.

    Attributes:
        seen, true: folders; the same where pictures of both kinds lie together.
    """

    seen: Path
    true: Path


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.is_dir() and bool(pairs_in(path))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where no such folders are there, or a picture has no true one."""
    if not config.path.is_dir():
        raise UserError(f"there is no folder {str(config.path)!r}; check the path")
    found = pairs_in(config.path)
    if not found:
        raise UserError(
            f"{config.path} holds no folders 'hr' and 'lr', nor pictures called _HR and _LR; check the path"
        )
    return {split: _opened(pair, config) for split, pair in found.items()}


def pairs_in(path: Path) -> dict[str, Pair]:
    """The folders of each split; a pair without a split is of the training."""
    found: dict[str, Pair] = {}
    for folder in _folders(path):
        below = [each for each in sorted(folder.iterdir()) if each.is_dir()]
        seen, true = (
            {_split_of(each, path): each for each in reversed(below) if rule.search(each.name)} for rule in (SEEN, TRUE)
        )
        if both := seen.keys() & true.keys():
            found = {split: Pair(_innermost(seen[split]), true[split]) for split in sorted(both)} | found
        elif _together(folder):
            found.setdefault(_split_of(folder, path), Pair(folder, folder))
    return found


def _innermost(folder: Path) -> Path:
    """The first of the folders of several scales, as in DIV2K_train_LR_bicubic/X2; without such ones itself."""
    scales = sorted(each for each in folder.iterdir() if each.is_dir() and MARKS.fullmatch(each.name))
    return scales[0] if scales else folder


def _folders(path: Path, depth: int = 0) -> Iterator[Path]:
    yield path
    if depth < DEEPEST:
        for each in sorted(path.iterdir()):
            if each.is_dir() and not (SEEN.search(each.name) or TRUE.search(each.name)):
                yield from _folders(each, depth + 1)


def _split_of(folder: Path, path: Path) -> str:
    """By a name on the way to the folder, or a part of its own, as in DIV2K_train_HR."""
    names = [*folder.relative_to(path).parts[::-1], path.name]
    words = [word for name in names for word in (name, *re.split(r"[_\-.]", name))]
    return next((split for word in words if (split := split_called(word))), "train")


def _together(folder: Path) -> bool:
    stems = [each.stem for each in sorted(folder.iterdir())[:1000] if each.is_file()]
    return any(SEEN.search(stem) for stem in stems) and any(TRUE.search(stem) for stem in stems)


def _opened(pair: Pair, config: SourceConfig) -> Source:
    names = _listed(pair.seen, config)
    true = names if pair.seen == pair.true else _listed(pair.true, config)
    if pair.seen == pair.true:
        true = [name for name in names if TRUE.search(_stem(name))]
        names = [name for name in names if SEEN.search(_stem(name))]
    place = {_key(name): name for name in true}
    if lonely := [name for name in names if _key(name) not in place]:
        shown = console.printable(os.fsdecode(os.path.join(os.fsencode(pair.seen), lonely[0])))
        raise UserError(
            f"{len(lonely):,} pictures have no true one of the same name in {pair.true}, such as {shown}; add or "
            "remove them"
        )
    if len(place) > len(names):
        console.warn(f"{len(place) - len(names):,} pictures in {pair.true} have no smaller or degraded one")
    none, roots = np.empty(0, np.float32), [os.path.realpath(os.fsencode(each)) for each in (pair.seen, pair.true)]
    files = Files(targets=none, kind="none", classes=(), root=roots[0], paths=Strings.of(names))
    column = PictureFiles(roots[1], Strings.of([place[_key(name)] for name in names]), np.arange(len(names)))
    return files.labelled(Labels(KIND, (), column))


def _listed(folder: Path, config: SourceConfig) -> list[bytes]:
    listing = scan(folder, follow_symlinks=config.follow_symlinks)
    listing.note_skipped(str(folder))
    return [listing[i] for i in range(len(listing))]


def _stem(name: bytes) -> str:
    return os.path.splitext(os.path.basename(os.fsdecode(name)))[0]


def _key(name: bytes) -> str:
    """What names of one picture have in common."""
    stem = MARKS.sub("", SEEN.sub("", TRUE.sub("", _stem(name))))
    return stem.strip("_-.").lower()
