"""What the targets of each split hold: objects and pixels of each class, crowds and difficult ones apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitrail.console import track
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source
from vitrail.data.targets import Tally

_SHOWN = 20  # classes in a line
IMBALANCE = 20  # the most common class has so many times as many as the rarest: worth a word


@dataclass(frozen=True)
class SplitCounts:
    """Attributes:
    images, objects, pixels: of each class by name; empty where targets have no such thing.
    crowds, difficult, bare: numbers of objects.
    unlabelled: images without an object, or a pixel of a class.
    most: objects of an image at most.
    """

    images: dict[str, int]
    objects: dict[str, int]
    pixels: dict[str, int]
    crowds: int = 0
    difficult: int = 0
    bare: int = 0
    unlabelled: int = 0
    most: int = 0

    def lines(self, split: str) -> Iterator[str]:
        """In words; nothing of targets without places."""
        apart = (("crowds", self.crowds), ("difficult", self.difficult), ("without an outline", self.bare))
        if self.objects:
            rest = "".join(f", {number:,} {what}" for what, number in apart if number)
            named = _listed(self.objects)
            yield f"{split}: {sum(self.objects.values()):,} objects to learn{named}{rest}"
            if self.most:
                yield f"{split}: {self.most:,} objects in an image at most"
        if self.unlabelled:
            what = "objects" if self.objects else "a pixel of any class"
            yield f"{split}: {self.unlabelled:,} images without {what}"
        if self.pixels:
            yield f"{split}: {sum(self.pixels.values()):,} pixels{_listed(self.pixels)}"


def _listed(counts: dict[str, int]) -> str:
    some = list(counts.items())[:_SHOWN]
    more = ", …" if len(counts) > _SHOWN else ""
    return f" ({', '.join(f'{name} {number:,}' for name, number in some)}{more})"


def count(source: Source, split: str) -> SplitCounts:
    """Those of a split; targets that cannot be read are left out, since `check` names them."""
    kind, classes = source.target_kind, source.classes
    if not kind.spatial:
        counts = source.counts()
        return SplitCounts({} if counts is None else _named(counts, classes), {}, {})
    total, unlabelled = Tally(), 0
    for index in track(range(len(source)), f"counting {split}"):
        try:
            own = kind.tally(source.targets, index, len(classes))
        except BadImage:
            continue
        total += own
        held = own.pixels if own.objects is None else own.objects
        unlabelled += int(held is not None and not held.any() and not own.crowds and not own.difficult)
    return SplitCounts(
        {},
        {} if total.objects is None else _named(total.objects, classes),
        {} if total.pixels is None else _named(total.pixels, classes),
        total.crowds,
        total.difficult,
        total.bare,
        unlabelled,
        kind.most(source.targets),
    )


def uneven(counts: SplitCounts) -> str | None:
    """That the most common class has more than so many times as many images, objects or pixels as the rarest."""
    for what, found in (("images", counts.images), ("objects", counts.objects), ("pixels", counts.pixels)):
        some = {name: number for name, number in found.items() if number}
        least, most = min(some, key=some.__getitem__, default=""), max(some, key=some.__getitem__, default="")
        if some and some[most] > IMBALANCE * some[least]:
            text = f"uneven classes: {some[most]:,} {what} of {most} and {some[least]:,} of {least}"
            return f"{text}, {some[most] / some[least]:,.0f} to 1" + ("; see --balance" if what == "images" else "")
    return None


def _named(counts: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, counts.tolist(), strict=True))
