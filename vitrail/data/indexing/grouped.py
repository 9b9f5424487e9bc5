"""Divisions that keep what belongs together on one side: samples of a group, or of a time and all that is earlier."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from vitrail.errors import UserError


def encode_groups(cells: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """The group of each sample of each split, int64 (N,); the same name is the same number in every split."""
    names = np.array([name for values in cells.values() for name in values], dtype=object)
    numbers = np.unique(names.astype(str), return_inverse=True)[1].reshape(-1)
    ends = np.cumsum([len(values) for values in cells.values()])
    return dict(zip(cells, np.split(numbers.astype(np.int64), ends[:-1]), strict=True))


def encode_times(cells: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """The time of each sample, float64 (N,): numbers as they are, dates of ISO 8601 in seconds since 1970, UTC where
    they name no zone.

    Args:
        where: position → how to call that cell in an error.

    Raises:
        UserError: a cell that is neither, or numbers beside dates.
    """
    numeric = len(cells) > 0 and _number(cells[0]) is not None
    times = [_number(cell) if numeric else _date(cell) for cell in cells]
    if None in times:
        place, kind = times.index(None), "number, as the first is" if numeric else "date; write it as 2024-05-31T14:00"
        raise UserError(f"{where(place)}: the time {cells[place]!r} is no {kind}")
    return np.array(times, np.float64)


def parts(strata: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """The part of each sample, int64 (N,), where no group is in two parts and every part has its share of each class,
    as nearly as whole groups allow.

    The groups are taken by size, the largest first, each into the part whose counts of classes come nearest to their
    targets by it: the smallest Σ (count − target)² / target. None is left empty.

    Args:
        strata: each sample's class; zeros where samples have none.
        groups: each sample's group, int64 (N,) from 0 on.
        shares: of the parts; they sum to 1.

    Raises:
        UserError: fewer groups than parts.
    """
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(groups)
    if len(sizes) < len(shares):
        raise UserError(f"{len(sizes)} group{'s' * (len(sizes) != 1)} cannot be divided into {len(shares)} parts")
    num_classes = int(strata.max(initial=0)) + 1
    cells, counts = np.unique(groups * num_classes + strata, return_counts=True)
    starts = np.searchsorted(cells, np.arange(len(sizes) + 1) * num_classes)
    targets = np.outer(shares, np.bincount(strata, minlength=num_classes)).clip(min=1e-9)
    filled = np.zeros_like(targets)
    part_of = np.empty(len(sizes), np.int64)
    keys = np.random.Philox(key=seed).random_raw(len(sizes))  # the raw stream never changes between NumPys
    for group in np.lexsort((keys, -sizes)):
        own = slice(starts[group], starts[group + 1])
        classes, added = cells[own] % num_classes, counts[own]
        aims = targets[:, classes]
        cost = ((added**2 + 2 * added * (filled[:, classes] - aims)) / aims).sum(axis=1)
        part_of[group] = part = int(np.argmin(cost))
        filled[part, classes] += added
    for part in range(len(shares)):
        if not (part_of == part).any():
            giver = np.bincount(part_of, minlength=len(shares)).argmax()
            given = np.flatnonzero(part_of == giver)
            part_of[given[np.argmin(sizes[given])]] = part
    return part_of[groups]


def periods(times: np.ndarray, groups: np.ndarray | None, shares: Sequence[float]) -> np.ndarray:
    """The period of each sample, int64 (N,), 0 the earliest: all of a period is later than the one before, and periods
    have their shares of the samples as nearly as that allows. A group is in the period of its last sample.

    Raises:
        UserError: fewer times than periods.
    """
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
        last = np.full(int(groups.max(initial=0)) + 1, -np.inf)
        np.maximum.at(last, groups, times)
        times = last[groups]
    moments, of_sample, counts = np.unique(times, return_inverse=True, return_counts=True)
    if len(moments) < len(shares):
        raise UserError(f"{len(moments)} time{'s' * (len(moments) != 1)} cannot be divided into {len(shares)} periods")
    ends = np.cumsum(counts)
    begins = [0]  # the first moment of each period
    for number, target in enumerate(np.cumsum(shares)[:-1] * len(times), start=1):
        nearest = int(np.argmin(np.abs(ends - target))) + 1
        begins.append(min(max(nearest, begins[-1] + 1), len(moments) - (len(shares) - number)))
    found: np.ndarray = np.searchsorted(begins, of_sample.reshape(-1), side="right") - 1
    return found.astype(np.int64)


def _date(cell: str) -> float | None:
    try:
        time = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
