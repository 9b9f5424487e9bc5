"""What the targets of a data set are counted by: objects and pixels of each class, and how large objects are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Extents(NamedTuple):
    """How large the objects of a data set are."""

    shares: np.ndarray
    """float (M, 2): height and width of each, as shares of its image's."""
    most: int
    """Objects of an image at most."""


@dataclass(frozen=True)
class Tally:
    """Of each class, int64 (K,); None where the targets have no such thing.

    Attributes:
        objects: that are learned from.
        pixels: of maps and masks.
        crowds, difficult, bare: numbers of objects that are crowds, that are difficult, and that have a box and no
            outline among others that have one.
    """

    objects: np.ndarray | None = None
    pixels: np.ndarray | None = None
    crowds: int = 0
    difficult: int = 0
    bare: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            objects=_sum(self.objects, other.objects),
            pixels=_sum(self.pixels, other.pixels),
            crowds=self.crowds + other.crowds,
            difficult=self.difficult + other.difficult,
            bare=self.bare + other.bare,
        )


def _sum(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return other if one is None else one if other is None else one + other
