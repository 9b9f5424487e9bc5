"""PNG files that hold a number for each pixel, as columns: classes, or which object it is."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.console import printable
from vitrail.data.indexing.index import Stamps, Strings, file_stamps
from vitrail.data.media.decode import BadImage, decode_map
from vitrail.data.media.read import read_regular
from vitrail.data.storage.objects import check_masks


@dataclass(frozen=True, eq=False)
class MapFiles:
    """``maps[i]`` is the map of image i, uint8 (H, W); ``maps[indices]`` are those of some images.

    Raises (where a map is read):
        BadImage: it cannot be.
    """

    root: bytes
    paths: Strings
    rows: np.ndarray

    @classmethod
    def at(cls, root: Path, paths: list[bytes]) -> MapFiles:
        """Those at ``paths``, relative to ``root``."""
        return cls(os.fsencode(root), Strings.of(paths), np.arange(len(paths)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | MapFiles:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        path = os.path.join(self.root, self.paths[int(self.rows[index])])
        try:
            return decode_map(read_regular(path))
        except BadImage as error:
            raise BadImage(f"has a map, {printable(os.fsdecode(path))}, that {error}") from None

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Of the maps' files."""
        rows = self.rows[indices].tolist()
        return file_stamps(os.path.join(self.root, self.paths[row]) for row in rows)

    def tobytes(self) -> bytes:
        """What distinguishes these maps from others: their names."""
        return b"\0".join(self.paths[int(row)] for row in self.rows)


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
