"""Image files that hold a number for each pixel, as columns: classes, or which object it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitrail.data.indexing.index import Stamps, Strings, file_stamps
from vitrail.data.indexing.label_colours import EXAMPLE
from vitrail.data.media.decode import BadImage
from vitrail.data.media.label_image import LabelImage, decode_label
from vitrail.data.media.label_windows import WindowedLabels, as_stored, open_labels
from vitrail.data.media.read import read_regular
from vitrail.data.storage.outlines import check_masks

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Reading:
    """How the values of an image become numbers.

    Attributes:
        values: uint8 (256,), the number for each grey level or place in a palette.
        colours: uint8 (K, 3), whose place is the number; they go before ``values`` where all are known.
        numbers: uint8 (K,), the number of each colour in their place.
        indexed: places in a palette, and grey levels, go before colours.
        levels: numbers are grey levels, which colours with three equal parts are too.
    """

    values: np.ndarray
    colours: np.ndarray | None = None
    numbers: np.ndarray | None = None
    indexed: bool = False
    levels: bool = False

    def of(self, image: LabelImage) -> np.ndarray:
        """uint8 (H, W). Raises BadImage for colours that are of no class."""
        if self.colours is not None and not (self.indexed and image.numbers is not None):
            found = self._by_colour(image)
            if found is not None:
                return found
        if image.numbers is None or (image.mode not in NUMBERS and not self.levels):
            shown = ",".join(map(str, self._odd(_pixels(image))))
            if self.colours is not None:
                raise BadImage(f"has the colour {shown}, which is of no class")
            raise BadImage(
                f"holds colours (mode {image.mode}), such as {shown}, where a number a pixel is wanted; write grey "
                f"levels, or name the colours in {EXAMPLE}"
            )
        return np.asarray(self.values[image.numbers])

    def _by_colour(self, image: LabelImage) -> np.ndarray | None:
        """None where a colour is of no class."""
        assert self.colours is not None
        pixels = _pixels(image)
        codes, places = np.unique(_codes(pixels), return_inverse=True)
        known = _codes(self.colours)
        order = np.argsort(known)
        at = order[np.minimum(np.searchsorted(known[order], codes), len(known) - 1)]
        if (strange := known[at] != codes).any():
            if not image.lossy:
                return None
            away = np.stack([codes[strange] >> shift & 255 for shift in (16, 8, 0)], axis=1)[:, None]
            at[strange] = np.square(away - self.colours.astype(np.int64)).sum(axis=2).argmin(axis=1)
        numbers = np.arange(len(known), dtype=np.uint8) if self.numbers is None else self.numbers
        return np.asarray(numbers[at][places.reshape(pixels.shape[:2])])

    def _odd(self, pixels: np.ndarray) -> list[int]:
        """A colour (3,) that is of no class."""
        found = np.unique(pixels.reshape(-1, 3), axis=0)
        if self.colours is not None:
            found = found[~np.isin(_codes(found), _codes(self.colours))]
        found = found[np.argsort(-np.ptp(found.astype(np.int64), axis=1), kind="stable")]  # greys last
        return [int(part) for part in found[0]]


NUMBERS = ("L", "P", "LA", "1")
"""Modes of images that hold numbers."""
AS_IT_IS = Reading(np.arange(256, dtype=np.uint8))


def standard_colours() -> np.ndarray:
    """The colours that Pascal VOC gives to the numbers from 0 on, uint8 (256, 3)."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def _pixels(image: LabelImage) -> np.ndarray:
    """The colours of an image, uint8 (H, W, 3)."""
    if image.colours is not None:
        return image.colours
    assert image.numbers is not None
    return np.repeat(image.numbers[..., None], 3, axis=2)


def _codes(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels.astype(np.int64) @ [1 << 16, 1 << 8, 1])


@dataclass(frozen=True, eq=False)
class MapFiles:
    """``maps[i]`` is the map of image i, uint8 (H, W); ``maps[indices]`` are those of some images.

    Raises (where a map is read):
        BadImage: it cannot be.
    """

    root: bytes
    paths: Strings
    rows: np.ndarray
    reading: Reading = AS_IT_IS

    @classmethod
    def at(cls, root: Path, paths: list[bytes], reading: Reading = AS_IT_IS) -> MapFiles:
        """Those at ``paths``, relative to ``root``."""
        return cls(os.fsencode(root), Strings.of(paths), np.arange(len(paths)), reading)

    def stored(self, index: int) -> LabelImage:
        """The file of a map as it is. Raises as ``[index]``."""
        path = os.path.join(self.root, self.paths[int(self.rows[index])])
        return self._named(path, lambda: _stored(path))

    def _named(self, path: bytes, read: Callable[[], T]) -> T:
        try:
            return read()
        except BadImage as error:
            raise BadImage(f"has a map, {os.fsdecode(path)}, that {error}") from None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | MapFiles:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        path = os.path.join(self.root, self.paths[int(self.rows[index])])
        return self._named(path, lambda: self.reading.of(_stored(path)))

    def opened(self, index: int) -> np.ndarray | WindowedLabels:
        """The map of an image; of a file that is too large to be decoded at once parts are read as they are needed."""
        path = os.path.join(self.root, self.paths[int(self.rows[index])])
        windows = self._named(path, lambda: open_labels(os.fsdecode(path), self.reading.of))
        return np.asarray(self[index]) if windows is None else windows

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Of the maps' files."""
        rows = self.rows[indices].tolist()
        return file_stamps(os.path.join(self.root, self.paths[row]) for row in rows)

    def tobytes(self) -> bytes:
        """What distinguishes these maps from others: their names."""
        return b"\0".join(self.paths[int(row)] for row in self.rows)


def _stored(path: bytes) -> LabelImage:
    windows = open_labels(os.fsdecode(path), as_stored)
    return decode_label(read_regular(path)) if windows is None else LabelImage(np.asarray(windows), None, False)


@dataclass(frozen=True, eq=False)
class NumberedMasks:
    """Masks that are maps of numbers: 1 is an image's first object."""

    maps: MapFiles | np.ndarray

    def stamps(self, images: np.ndarray) -> Stamps:
        """Of the maps' files, where they are in files."""
        nothing = np.zeros(len(images), np.int64)
        return Stamps(nothing, nothing) if isinstance(self.maps, np.ndarray) else self.maps.stamps(images)

    def read(self, image: int, objects: range, size: tuple[int, int]) -> np.ndarray:
        """As :class:`vitrail.data.annotations.Masks`."""
        check_masks(len(objects), size)
        found = np.asarray(self.maps[image])
        if found.shape != size:
            raise BadImage(f"has a mask of {found.shape[1]} × {found.shape[0]} pixels and is {size[1]} × {size[0]}")
        return np.asarray(found == np.arange(1, len(objects) + 1)[:, None, None])
