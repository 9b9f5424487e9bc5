"""``vitrail data stats``: statistics of a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vitrail.console import table
from vitrail.data.inspection.counting import SplitCounts, count
from vitrail.data.inspection.inspect import Inspection, inspect
from vitrail.data.media.stored import PLAIN
from vitrail.data.source import Source, Splits

_COMMON_SIZES = 5


@dataclass(frozen=True)
class SplitStats:
    """Numbers about one split.

    Attributes:
        num_inspected: images that were decoded; sizes and colours are theirs.
        class_counts: images of each class; of boxes and masks, objects.
        pixels: of each class, of the images that were inspected; empty where targets have none.
        crowds, difficult: numbers of objects among those, which are not learned from.
        stored: images by what their files hold, such as "16 bits, values to 4095".
        targets: for numbers, (minimum, mean, standard deviation, maximum) of each target.
        heights, widths: (minimum, median, maximum) in pixels.
        common_sizes: the most common (height, width, images).
        mean, std: of each channel over all pixels, on a scale of 0 to 1.
    """

    num_images: int
    num_inspected: int
    num_bad: int
    class_counts: dict[str, int]
    targets: dict[str, tuple[float, float, float, float]]
    heights: tuple[int, int, int]
    widths: tuple[int, int, int]
    common_sizes: list[tuple[int, int, int]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: dict[str, int] = field(default_factory=dict)
    crowds: int = 0
    difficult: int = 0
    stored: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def stats(
    splits: Splits, *, limit: int | None = None, channels: int | None = None, workers: int | None = None
) -> dict[str, SplitStats]:
    """The numbers of each split; ``limit`` decodes at most this many evenly spaced images of each."""
    result = {}
    for split, source in splits.items():
        if not len(source):  # a share of few images can be empty
            continue
        some = source
        if limit is not None and limit < len(source):
            some = source.subset(np.linspace(0, len(source) - 1, limit).astype(np.int64))
        seen = inspect(some, f"stats {split}", channels=channels, workers=workers)
        result[split] = _summary(source, seen, count(some, split))
    return result


def lines(result: dict[str, SplitStats]) -> str:
    """The numbers as text tables."""
    overview = table(
        ["split", "images", "bad", "height", "width", "mean", "std"],
        [
            [split, f"{s.num_images:,}", s.num_bad, _span(s.heights), _span(s.widths), _short(s.mean), _short(s.std)]
            for split, s in result.items()
        ],
    )
    names = dict.fromkeys(name for s in result.values() for name in s.class_counts)
    if not names:
        targets = [
            [split, name, *(f"{v:.4g}" for v in row)] for split, s in result.items() for name, row in s.targets.items()
        ]
        shown = table(["split", "target", "min", "mean", "std", "max"], targets) if targets else ""
    else:
        shown = table(["class", *result], [[n, *(s.class_counts[n] for s in result.values())] for n in names])
    parts = [overview, shown]
    if pixels := list(dict.fromkeys(name for s in result.values() for name in s.pixels)):
        held = [[n, *(f"{s.pixels.get(n, 0):,}" for s in result.values())] for n in pixels]
        parts.append(table(["pixels of", *result], held))
    for split, s in result.items():
        apart = [f"{number:,} {what}" for what, number in (("crowds", s.crowds), ("difficult", s.difficult)) if number]
        if apart:
            parts.append(f"{split}: of the objects {' and '.join(apart)}, which are not learned from")
        if set(s.stored).difference(PLAIN):
            parts.append(f"{split}: images hold " + ", ".join(f"{what} ({n:,})" for what, n in s.stored.items()))
    return "\n\n".join(part for part in parts if part)


def _summary(source: Source, seen: Inspection, held: SplitCounts) -> SplitStats:
    sizes = seen.sizes[seen.sizes[:, 0] > 0]
    mean, std = moments(seen.histogram)
    counts = source.counts()
    common = Counter(map(tuple, sizes.tolist())).most_common(_COMMON_SIZES)
    return SplitStats(
        num_images=len(source),
        num_inspected=len(seen.sizes),
        num_bad=len(seen.bad),
        class_counts={} if counts is None else dict(zip(source.classes, counts.tolist(), strict=True)),
        targets=source.target_kind.ranges(source.targets, source.classes),
        heights=_range(sizes[:, 0]),
        widths=_range(sizes[:, 1]),
        common_sizes=[(size[0], size[1], count) for size, count in common],
        mean=mean,
        std=std,
        pixels=held.pixels,
        crowds=held.crowds,
        difficult=held.difficult,
        stored=dict(seen.stored.most_common()),
    )


def moments(histogram: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, standard deviation) of each channel, on a scale of 0 to 1, from its histogram int64 (C, 256)."""
    values = np.arange(256) / 255
    weights = histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def _range(values: np.ndarray) -> tuple[int, int, int]:
    return (int(values.min()), int(np.median(values)), int(values.max())) if len(values) else (0, 0, 0)


def _span(span: tuple[int, int, int]) -> str:
    low, median, high = span
    return str(low) if low == high else f"{low}–{high} (median {median})"


def _short(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
