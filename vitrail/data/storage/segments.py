"""Panoptic PNG files, whose colours are the ids of segments: R + 256 G + 65536 B."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.data.indexing.index import Stamps, Strings, file_stamps
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.read import read_regular

SHIFTS = (0, 8, 16)
MOST = 2**24  # ids that three bytes hold
_STRIP = 2**20  # pixels that are looked up at a time


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

    def stamps(self, images: np.ndarray) -> Stamps:
        """Of the maps' files."""
        return file_stamps(os.path.join(self.root, self.paths[image]) for image in images.tolist())

    def read(self, image: int, segments: range) -> np.ndarray:
        """int32 (H, W), from 1 on in the order of the segments."""
        path = os.path.join(self.root, self.paths[image])
        shown = os.fsdecode(path)
        try:
            picture = decode(read_regular(path), 3)
        except BadImage as error:
            raise BadImage(f"has a map, {shown}, that {error}") from None
        assert isinstance(picture, Image.Image)
        pixels = np.asarray(picture)
        number_of = np.zeros(MOST, np.int32)  # of which only what is written takes memory
        number_of[self.ids[segments.start : segments.stop]] = np.arange(1, len(segments) + 1)
        numbers = np.empty(pixels.shape[:2], np.int32)
        rows = max(1, _STRIP // pixels.shape[1])
        for top in range(0, len(pixels), rows):
            part = slice(top, top + rows)
            ids = to_ids(pixels[part])
            numbers[part] = number_of[ids]
            if (strange := ids[(numbers[part] == 0) & (ids != 0)]).size:
                raise BadImage(f"has a map, {shown}, with the id {strange.min()}, which no segment of its entry has")
        return numbers


def to_ids(pixels: np.ndarray) -> np.ndarray:
    """Colours uint8 (H, W, 3) → ids int64 (H, W)."""
    return np.asarray(pixels.astype(np.int64) @ [1 << shift for shift in SHIFTS])


def to_colours(ids: np.ndarray) -> Image.Image:
    """The reverse: ids (H, W) below 2²⁴ as a picture."""
    return Image.fromarray(np.stack([ids >> shift & 255 for shift in SHIFTS], axis=-1).astype(np.uint8))
