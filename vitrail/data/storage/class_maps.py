"""From the values that masks hold to classes: numbers, grey levels such as 0 and 255, or colours."""

from __future__ import annotations

import dataclasses
import os
from typing import NamedTuple

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Table, cached
from vitrail.data.indexing.label_colours import LabelColours
from vitrail.data.media.decode import BadImage
from vitrail.data.storage.maps import AS_IT_IS, MapFiles, Reading
from vitrail.data.storage.objects import number_of, unknown_class
from vitrail.errors import UserError
from vitrail.ops.segmentation_losses import IGNORE

TWO = ("background", "foreground")
_FEW = 32  # levels that may be told from numbers
_SPREAD = 4  # times as many numbers as levels: they are no numbers
_LOOKED_AT = 64  # masks that are read where the classes are known, before all are
_RARE = 0.003  # share of pixels under which a value of a JPEG is noise
_NEAR, _NOISE = 64, 16  # below, values of a JPEG are taken as they are; apart by less, they are of one level


class ClassMaps(NamedTuple):
    """Masks by split, with how they are read, and their classes."""

    maps: dict[str, MapFiles]
    classes: tuple[str, ...]


def class_maps(maps: dict[str, MapFiles], classes: tuple[str, ...], colours: LabelColours | None) -> ClassMaps:
    """How masks are to be read, decided by those of the training split and said where it is not the plain numbers.

    Args:
        classes: the names in order, where they are known; else those of ``colours``, of two levels, or numbers.

    Raises:
        UserError: a class of ``colours`` is not among the known ones.
    """
    if colours is not None:
        classes = classes or colours.names
        known = number_of(classes)
        if missing := next((name for name in colours.names if name not in known), None):
            raise UserError(f"{colours.file} has the {unknown_class(missing, classes)}; make the lists agree")
        numbers = np.array([known[name] for name in colours.names], np.uint8)
        reading = Reading(AS_IT_IS.values, colours.colours, numbers)
    else:
        first = maps.get("train") or next(iter(maps.values()))
        classes, reading = _levels(first, classes)
    return ClassMaps({split: dataclasses.replace(each, reading=reading) for split, each in maps.items()}, classes)


def _levels(maps: MapFiles, classes: tuple[str, ...]) -> tuple[tuple[str, ...], Reading]:
    count = len(maps) if not classes else min(len(maps), _LOOKED_AT)
    seen, num_lossy = _survey(maps, np.unique(np.linspace(0, max(len(maps) - 1, 0), count).astype(int)))
    if classes and count < len(maps) and _two_levels(_values(seen, num_lossy), classes):
        seen, num_lossy = _survey(maps, np.arange(len(maps)))
    values = _values(seen, num_lossy)
    if num_lossy:
        console.warn(
            f"{num_lossy:,} masks are JPEG, which changes the numbers of classes: each pixel is taken as the nearest "
            f"of {_listed(values)}; write masks as PNG"
        )
    if _two_levels(values, classes):
        console.note(f"masks hold 0 and 255 alone: two classes, {' and '.join(classes or TWO)}; 255 is not ignored")
        return classes or TWO, _nearest([0, IGNORE], lossy=bool(num_lossy))
    levels = _named_levels(classes)
    if levels and not (_are_numbers(values, classes) and not {*values} <= {*levels}):
        shown = _listed(levels)
        console.note(f"masks hold the levels {shown}, as the classes are called: {len(levels)} classes, none ignored")
        return classes, _nearest(levels, lossy=bool(num_lossy))
    spread = 1 < len(values) <= _FEW and max(values) + 1 >= _SPREAD * len(values)
    if spread and not classes and max(value for value in values if value != IGNORE) + 1 >= _SPREAD * len(values):
        console.note(f"masks hold the levels {_listed(values)}: {len(values)} classes, named by them, none ignored")
        return tuple(map(str, values)), _nearest(values, lossy=bool(num_lossy))
    if spread and len(values) == len(classes) and sorted(values)[-2] >= len(classes):
        console.note(f"masks hold the levels {_listed(values)}, taken for {', '.join(classes)} in this order")
        return classes, _nearest(values, lossy=bool(num_lossy))
    highest = max((value for value in values if value != IGNORE), default=0)
    classes = classes or tuple(map(str, range(highest + 1)))
    known = [*range(len(classes)), IGNORE]
    return classes, Reading(_table(known, known)) if num_lossy else AS_IT_IS


def _two_levels(values: list[int], classes: tuple[str, ...]) -> bool:
    one = [IGNORE] if classes == TWO else [0, IGNORE]  # of known classes one may be missing
    return values in (one, [0, IGNORE]) and len(classes) in (0, 2)


def _named_levels(classes: tuple[str, ...]) -> list[int]:
    """The levels that known classes are called by, which a mask need not hold all of; none where they are numbers from
    0 on, or other names."""
    if not all(name.isascii() and name.isdecimal() and int(name) <= IGNORE for name in classes):
        return []
    levels = sorted({int(name) for name in classes})
    spread = len(levels) > 1 and levels[-1] + 1 >= _SPREAD * len(levels)
    return levels if spread and tuple(map(str, levels)) == classes else []


def _are_numbers(values: list[int], classes: tuple[str, ...]) -> bool:
    return all(value < len(classes) or value == IGNORE for value in values)


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")


def _nearest(levels: list[int], *, lossy: bool) -> Reading:
    """The place of a level; of values between them that of the nearest, or none."""
    if lossy:
        return Reading(_table(levels, list(range(len(levels)))), levels=True)
    table = np.arange(256)
    table[np.arange(256) < IGNORE] = np.maximum(np.arange(IGNORE), len(levels))  # what is no level stays unknown
    table[levels] = np.arange(len(levels))
    return Reading(table.astype(np.uint8), levels=True)


def _table(levels: list[int], numbers: list[int]) -> np.ndarray:
    away = np.abs(np.arange(256)[:, None] - np.array(levels))
    return np.array(numbers, np.uint8)[away.argmin(axis=1)]


def _values(seen: np.ndarray, num_lossy: int) -> list[int]:
    """The values that pixels have, sorted; of JPEG masks the levels that their noise lies around."""
    if not num_lossy:
        return [int(value) for value in np.flatnonzero(seen)]
    common = np.flatnonzero(seen >= _RARE * seen.sum())
    if len(common) and common.max() < _NEAR:
        return [int(value) for value in common]
    levels: list[int] = []
    for value in sorted(common.tolist(), key=lambda value: -int(seen[value])):
        if all(abs(value - level) > _NOISE for level in levels):
            levels.append(value)
    return sorted(IGNORE if level >= IGNORE - 2 else 0 if level <= 2 else level for level in levels)


def _survey(maps: MapFiles, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """(pixels of each value, int64 (256,); how many are JPEG) of some masks; those that cannot be read, or hold
    colours, are left to loading and `data check`."""

    def build() -> tuple[Table, list[bytes]]:
        seen, lossy = np.zeros(256, np.int64), 0
        for row in console.track(rows.tolist(), "looking for classes"):
            try:
                found = maps.stored(row)
            except BadImage:
                continue
            lossy += found.lossy
            if found.numbers is not None:
                seen += np.bincount(found.numbers.ravel(), minlength=256)
        paths = [maps.paths[int(maps.rows[row])] for row in rows]
        return {"seen": seen, "lossy": np.array(lossy)}, [os.path.join(maps.root, path) for path in paths]

    table = cached(f"values of masks {maps.root!r} {rows.tolist()} {maps.tobytes()!r}", build)
    return table["seen"], int(table["lossy"])
