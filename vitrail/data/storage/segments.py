"""Panoptic PNG files, whose colours are the ids of segments: R + 256 G + 65536 B."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.console import printable
from vitrail.data.indexing.index import Strings
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.read import read_regular

SHIFTS = (0, 8, 16)
MOST = 2**24  # ids that three bytes hold


@dataclass(frozen=True, eq=False)
class IdMaps:
    """Maps in PNG files, as :class:`vitrail.data.segments.SegmentMaps`.

    Attributes:
        root: the folder that paths begin at.
        paths: of the N images.
        ids: int64 (M,), the id of each segment in its image's map.
    """

    root: bytes
    paths: Strings
    ids: np.ndarray

    def read(self, image: int, segments: range) -> np.ndarray:
        """int32 (H, W), from 1 on in the order of the segments."""
        path = os.path.join(self.root, self.paths[image])
        shown = printable(os.fsdecode(path))
        try:
            picture = decode(read_regular(path), 3)
        except BadImage as error:
            raise BadImage(f"has a map, {shown}, that {error}") from None
        assert isinstance(picture, Image.Image)
        found = to_ids(np.asarray(picture))
        own = self.ids[segments.start : segments.stop]
        present, places = np.unique(found, return_inverse=True)
        order = np.argsort(own)
        at = np.searchsorted(own, present, sorter=order)
        rows = order[np.minimum(at, len(own) - 1)] if len(own) else np.zeros(len(present), np.int64)
        known = (own[rows] == present) if len(own) else np.zeros(len(present), bool)
        if (strange := present[~known & (present != 0)]).size:
            raise BadImage(f"has a map, {shown}, with the id {strange[0]}, which no segment of its entry has")
        return np.where(known, rows + 1, 0).astype(np.int32)[places.reshape(found.shape)]


def to_ids(pixels: np.ndarray) -> np.ndarray:
    """Colours uint8 (H, W, 3) → ids int64 (H, W)."""
    return np.asarray(pixels.astype(np.int64) @ [1 << shift for shift in SHIFTS])


def to_colours(ids: np.ndarray) -> Image.Image:
    """The reverse: ids (H, W) below 2²⁴ as a picture."""
    return Image.fromarray(np.stack([ids >> shift & 255 for shift in SHIFTS], axis=-1).astype(np.uint8))
