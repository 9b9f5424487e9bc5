"""``vitrail data check``: decode everything first, and list every bad file with its cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations
from vitrail.data.inspection.counting import SplitCounts, count, uneven
from vitrail.data.inspection.inspect import inspect
from vitrail.data.inspection.near import near_pairs
from vitrail.data.inspection.teaching import BY_DEFAULT, cannot_teach, too_many
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.stored import PLAIN
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
        near: pictures of other splits that look like one in training, not byte by byte.
        counts: images, objects and pixels of each class, by split.
        stored: images by what their files hold, where some are not 8-bit grey or RGB, by split.
        remarks: what is odd of the data as a whole, and what training would silently do.
        refusal: why training would refuse the data; None where it would not.
    """

    num_images: dict[str, int]
    bad: list[Finding] = field(default_factory=list)
    warned: list[Finding] = field(default_factory=list)
    conflicts: list[tuple[Finding, ...]] = field(default_factory=list)
    leaks: list[tuple[Finding, ...]] = field(default_factory=list)
    num_duplicates: int = 0
    empty_classes: dict[str, list[str]] = field(default_factory=dict)
    case_twins: list[tuple[str, ...]] = field(default_factory=list)
    near: list[tuple[Finding, ...]] = field(default_factory=list)
    counts: dict[str, SplitCounts] = field(default_factory=dict)
    stored: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    refusal: str | None = None

    @property
    def ok(self) -> bool:
        """All images can be used, and something can be learned from them."""
        return not self.bad and self.refusal is None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"ok": self.ok, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """The report as text, one finding a line."""
        yield from map(console.printable, self._texts())

    def _texts(self) -> Iterator[str]:
        yield from (f"bad: {finding}" for finding in self.bad)
        yield from (f"warning: {finding}" for finding in self.warned)
        for twins in self.conflicts:
            yield "same bytes, different labels: " + ", ".join(f"{f.name} ({f.text})" for f in twins)
        for twins in self.leaks:
            yield "same bytes in training and elsewhere: " + ", ".join(f"{f.name} ({f.split})" for f in twins)
        for twins in self.near:
            yield "look the same in training and elsewhere: " + ", ".join(f"{f.name} ({f.split})" for f in twins)
        for split, names in self.empty_classes.items():
            yield f"no {split} {'object' if self.counts[split].objects else 'image'} of: {', '.join(names)}"
        for group in self.case_twins:
            yield f"classes that differ by case alone: {', '.join(group)}"
        for split, numbers in self.stored.items():
            yield f"{split}: images hold " + ", ".join(f"{what} ({number:,})" for what, number in numbers.items())
        yield from self.remarks
        for split, found in self.counts.items():
            yield from found.lines(split)
        if self.refusal is not None:
            yield f"cannot be learned from: {self.refusal}"
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
    stored: dict[str, dict[str, int]] = {}
    thumbnails: dict[str, np.ndarray] = {}
    digests, places = [], []
    sources = {split: source for split, source in splits.items() if len(source)}  # a share of few images can be empty
    for split, source in sources.items():
        seen = inspect(source, f"check {split}", channels=channels, workers=workers, reading=reading)
        bad += [Finding(split, i, source.name(i), text) for i, text in seen.bad]
        warned += [Finding(split, i, source.name(i), text) for i, text in seen.warned]
        bad += [Finding(split, i, source.name(i), text) for i, text in faults(source, seen.sizes, seen.thumbnails)]
        readable = np.setdiff1d(np.arange(len(source)), [i for i, _ in seen.bad])
        thumbnails[split] = seen.thumbnails
        if set(seen.stored).difference(PLAIN):
            stored[split] = dict(seen.stored.most_common())
        digests.append(seen.digests[readable])
        places += [(split, int(i)) for i in readable]
    conflicts, leaks, num_duplicates = _twins(np.concatenate(digests or [np.empty((0, 16), np.uint8)]), places, sources)
    counts = {split: count(source, split) for split, source in sources.items()}
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
        near=_near(thumbnails, sources, leaks),
        counts=counts,
        stored=stored,
        remarks=_remarks(sources, counts),
        refusal=cannot_teach(sources["train"]) if "train" in sources else None,
    )


def _remarks(sources: dict[str, Source], counts: dict[str, SplitCounts]) -> list[str]:
    found = list(dict.fromkeys(remark for source in sources.values() for remark in source.remarks))
    found += [f"{split}: {text}" for split in counts if (text := uneven(counts[split]))]
    return found + [text for split, source in sources.items() if (text := too_many(source, BY_DEFAULT, split))]


def _near(
    thumbnails: dict[str, np.ndarray], sources: dict[str, Source], leaks: list[tuple[Finding, ...]]
) -> list[tuple[Finding, ...]]:
    """Of each other split the pictures that look like one in training, but for those of the same bytes."""
    known = {(finding.split, finding.index) for twins in leaks for finding in twins}
    pairs = []
    for split in [split for split in sources if split != "train" and "train" in sources]:
        for row, other in near_pairs(thumbnails["train"], thumbnails[split]):
            if (split, other) not in known:
                places = (("train", row), (split, other))
                pairs.append(tuple(Finding(s, i, sources[s].name(i), label_text(sources[s], i)) for s, i in places))
    return pairs


def faults(source: Source, sizes: np.ndarray, thumbnails: np.ndarray) -> Iterator[tuple[int, str]]:
    """(position, what is wrong) for each fault of a spatial target.

    Args:
        sizes: int32 (N, 2): height and width as decoded; 0 for images that could not be.
        thumbnails: uint8 (N, T, T), their greys.
    """
    if not (kind := source.target_kind).spatial:
        return
    for index in console.track(range(len(source)), "checking annotations"):
        size = int(sizes[index, 0]), int(sizes[index, 1])
        if all(size):
            for text in kind.faults(source.targets, index, size, source.classes):
                yield index, text
            if (why := kind.stranger(source.targets, index, thumbnails[index])) is not None:
                yield index, why


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
