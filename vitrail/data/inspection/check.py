"""``vitrail data check``: decode everything first, and list every bad file with its cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations
from vitrail.data.inspection.inspect import inspect
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.source import Source, SourceConfig, Splits, case_twins, open_source

Place = tuple[str, int]  # (split, position in it)


@dataclass(frozen=True)
class Finding:
    """Something about one sample: why it is bad, what to know about it, or which label it has among its twins."""

    split: str
    index: int
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name} {self.text}"


@dataclass(frozen=True)
class Report:
    """What is wrong with a data set.

    Attributes:
        num_images: of each split.
        bad: samples that cannot be used, with the cause.
        warned: samples that are used with a reservation.
        conflicts: samples of the same bytes under different labels, one tuple for each content.
        leaks: samples of the same bytes in training and in another split.
        num_duplicates: samples whose bytes came before.
        empty_classes: classes without an image, of each split.
        case_twins: class names that differ by case alone.
    """

    num_images: dict[str, int]
    bad: list[Finding] = field(default_factory=list)
    warned: list[Finding] = field(default_factory=list)
    conflicts: list[tuple[Finding, ...]] = field(default_factory=list)
    leaks: list[tuple[Finding, ...]] = field(default_factory=list)
    num_duplicates: int = 0
    empty_classes: dict[str, list[str]] = field(default_factory=dict)
    case_twins: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """All images can be used."""
        return not self.bad

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"ok": self.ok, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The report as text, one finding a line."""
        yield from (f"bad: {finding}" for finding in self.bad)
        yield from (f"warning: {finding}" for finding in self.warned)
        for twins in self.conflicts:
            yield "same bytes, different labels: " + ", ".join(f"{f.name} ({f.text})" for f in twins)
        for twins in self.leaks:
            yield "same bytes in training and elsewhere: " + ", ".join(f"{f.name} ({f.split})" for f in twins)
        for split, names in self.empty_classes.items():
            yield f"no {split} image of: {', '.join(names)}"
        for group in self.case_twins:
            yield f"classes that differ by case alone: {', '.join(group)}"
        counts = ", ".join(f"{count:,} {split}" for split, count in self.num_images.items())
        yield f"{counts}: {len(self.bad):,} bad, {len(self.warned):,} with warnings, {self.num_duplicates:,} duplicates"


def check(
    data: Splits | SourceConfig | str,
    *,
    channels: int | None = None,
    workers: int | None = None,
    reading: Reading = DEFAULT,
) -> Report:
    """Decode every image of a data set, compare their bytes, and look at what is said to stand where in them.

    Annotations that contradict themselves leave no data to open; then they are all that is listed.

    Args:
        data: opened splits, or what to open.
        channels: to decode to; default: what is stored, 3 where it is known only after reading the files.
        workers: processes; default: one a core.
        reading: the range of values of more than 8 bits, and the page.

    Raises:
        UserError: the data cannot be opened at all.
    """
    try:
        splits = _open(data)
    except BadAnnotations as error:
        flaws = [Finding("", flaw.place, flaw.file, flaw.text) for flaw in error.flaws]
        return Report(num_images={}, bad=flaws)
    bad: list[Finding] = []
    warned: list[Finding] = []
    digests, places = [], []
    sources = {split: source for split, source in splits.items() if len(source)}  # a share of few images can be empty
    for split, source in sources.items():
        seen = inspect(source, f"check {split}", channels=channels, workers=workers, reading=reading)
        bad += [Finding(split, i, source.name(i), text) for i, text in seen.bad]
        warned += [Finding(split, i, source.name(i), text) for i, text in seen.warned]
        bad += [Finding(split, i, source.name(i), text) for i, text in faults(source, seen.sizes)]
        readable = np.setdiff1d(np.arange(len(source)), [i for i, _ in seen.bad])
        digests.append(seen.digests[readable])
        places += [(split, int(i)) for i in readable]
    conflicts, leaks, num_duplicates = _twins(np.concatenate(digests or [np.empty((0, 16), np.uint8)]), places, sources)
    empty = {split: _empty_classes(source) for split, source in sources.items()}
    return Report(
        num_images={split: len(source) for split, source in splits.items()},
        bad=bad,
        warned=warned,
        conflicts=conflicts,
        leaks=leaks,
        num_duplicates=num_duplicates,
        empty_classes={split: names for split, names in empty.items() if names},
        case_twins=case_twins(splits.classes),
    )


def faults(source: Source, sizes: np.ndarray) -> Iterator[tuple[int, str]]:
    """(position, what is wrong) for each fault of a spatial target.

    Args:
        sizes: int32 (N, 2): height and width as decoded; 0 for images that could not be.
    """
    if not (kind := source.target_kind).spatial:
        return
    for index in console.track(range(len(source)), "checking annotations"):
        size = int(sizes[index, 0]), int(sizes[index, 1])
        if all(size):
            for text in kind.faults(source.targets, index, size, source.classes):
                yield index, text


def label_text(source: Source, index: int) -> str:
    """The label of a sample in words."""
    return source.target_kind.text(source.targets, index, source.classes)


def _open(data: Splits | SourceConfig | str) -> Splits:
    if isinstance(data, Splits):
        return data
    return open_source(SourceConfig(spec=data) if isinstance(data, str) else data)


def _twins(
    digests: np.ndarray, places: list[Place], sources: dict[str, Source]
) -> tuple[list[tuple[Finding, ...]], list[tuple[Finding, ...]], int]:
    """(conflicts, leaks, number of duplicates) among samples of equal bytes."""
    keys = np.ascontiguousarray(digests).view("V16").ravel()
    _, group_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    ends = np.cumsum(counts)
    conflicts, leaks = [], []
    for group in np.flatnonzero(counts > 1):
        members = [places[i] for i in order[ends[group] - counts[group] : ends[group]]]
        twins = tuple(Finding(split, i, sources[split].name(i), label_text(sources[split], i)) for split, i in members)
        if len({twin.text for twin in twins}) > 1:
            conflicts.append(twins)
        if len({twin.split == "train" for twin in twins}) > 1:
            leaks.append(twins)
    return conflicts, leaks, len(keys) - len(counts)


def _empty_classes(source: Source) -> list[str]:
    if (counts := source.counts()) is None:
        return []
    return [name for name, count in zip(source.classes, counts.tolist(), strict=True) if not count]
