"""How an image folder is laid out: at which depth its splits are, and which folders merely wrap others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.data.indexing.splits import SPLITS, alike, is_plainly, split_called
from vitrail.errors import UserError


@dataclass(frozen=True)
class Layout:
    """The splits of a folder.

    Attributes:
        relative: for each split, by number of a folder, its path without the name of the split and without folders that
            wrap all of the split.
        others: the images that are in no split, as the folders that hold them.
    """

    relative: Mapping[str, Mapping[int, str]]
    others: tuple[str, ...] = ()


def find_layout(
    folders: Sequence[str], counts: np.ndarray, spec: str, *, labelled: bool, level: str = "auto"
) -> Layout:
    """The layout of ``folders``.

    Splits are found by a word of their folders' names at any depth: ``train/ant``, ``data/seg_train/ant``,
    ``ant/train``. All folders of one depth are either splits, or beside splits, which is said.

    Args:
        folders: paths relative to the data's folder, ``""`` for itself.
        counts: int (F,): images directly in each.
        labelled: whether folders below the splits are classes.
        level: as ``SourceConfig.class_level``.

    Raises:
        UserError: two folders for one split, or images beside splits that lie in folders of classes.
    """
    parts = [folder.split("/") if folder else [] for folder in folders]
    holding = np.flatnonzero(counts).tolist()
    for depth in range(max((len(parts[i]) for i in holding), default=0)):
        if _are_splits(parts, holding, depth):
            return _divided(folders, parts, holding, depth, spec, labelled=labelled, level=level)
    return Layout({"train": _unwrapped(dict(enumerate(folders)), counts, level)})


def _are_splits(parts: list[list[str]], holding: list[int], depth: int) -> bool:
    """Whether the folders at this depth are splits, by their names and by what lies below."""
    deep = [i for i in holding if len(parts[i]) > depth]
    names = {parts[i][depth] for i in deep}
    found = {name: split for name in names if (split := split_called(name))}
    if not found:
        return False
    below = {name: {parts[i][depth + 1] for i in deep if parts[i][depth] == name and len(parts[i]) > depth + 1}
             for name in found}  # fmt: skip
    several = len(set(found.values())) > 1
    if not several:  # one split alone: nothing else may be there
        (name, *more) = found
        return len(deep) == len(holding) and names == {name} and not more and is_plainly(name)
    if not alike(found):  # bullet_train and test_tube are classes, unless the same classes are in both
        shared = [below[a] & below[b] for a in found for b in found if a < b and found[a] != found[b]]
        return names == set(found) and any(shared)
    return names == set(found) or "train" in found.values()


def _divided(
    folders: Sequence[str],
    parts: list[list[str]],
    holding: list[int],
    depth: int,
    spec: str,
    *,
    labelled: bool,
    level: str,
) -> Layout:
    split_of = {i: split for i, part in enumerate(parts) if len(part) > depth and (split := split_called(part[depth]))}
    relative: dict[str, dict[int, str]] = {}
    deeper = any(len(parts[i]) > depth + 1 for i in split_of)
    wrapping = depth if deeper and len({tuple(parts[i][:depth]) for i in split_of}) == 1 else 0
    for split in SPLITS:
        members = [i for i, own in split_of.items() if own == split]
        names = sorted({parts[i][depth] for i in members if i in holding} or {parts[i][depth] for i in members})
        beside: dict[str, set[str]] = {}  # in one folder; each class may call its own otherwise
        for i in members:
            if parts[i][depth] in names:
                beside.setdefault("/".join(parts[i][:depth]), set()).add(parts[i][depth])
        if two := next((sorted(own) for own in beside.values() if len(own) > 1), None):
            raise UserError(f"{spec!r} holds {' and '.join(two)}; keep one of them as the {split} split")
        if names:
            above = [i for i, part in enumerate(parts) if len(part) > depth and part[depth] in names]
            relative[split] = {i: "/".join(parts[i][wrapping:depth] + parts[i][depth + 1 :]) for i in above}
    others = sorted({folders[i] for i in holding if i not in split_of})
    direct = [i for i in holding if i in split_of and len(parts[i]) == depth + 1]
    if labelled and others and direct and depth:
        raise UserError(
            f"{spec!r}: {folders[direct[0]]!r} is the {split_of[direct[0]]} split of a class, and {others[0]!r} has "
            "none; divide all classes into splits, or none"
        )
    counts = np.zeros(len(folders), np.int64)
    counts[holding] = 1
    first = next(iter(relative))
    unwrapped = {first: _unwrapped(relative[first], counts, level)}
    known = {path.split("/")[0] for path in unwrapped[first].values() if path}
    for split, paths in relative.items():
        unwrapped.setdefault(split, _unwrapped(paths, counts, level, known))
    return Layout(unwrapped, tuple(others))


def _unwrapped(paths: dict[int, str], counts: np.ndarray, level: str, known: set[str] | None = None) -> dict[int, str]:
    """The paths without the folders that all of them are in and that hold no images themselves.

    Args:
        known: names that are classes, which wrap nothing.
    """
    while True:
        tops = {path.split("/")[0] for path in paths.values() if path}
        direct = [i for i, path in paths.items() if "/" not in path and counts[i]]
        if len(tops) != 1 or direct:
            return paths
        (top,) = tops
        if (known and top in known) or (level == "top" and split_called(top) is None):
            return paths
        if not any("/" in path for path in paths.values()):
            return paths
        paths = {i: path.partition("/")[2] for i, path in paths.items()}
