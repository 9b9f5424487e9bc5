"""Large TIFFs read window by window, by tifffile, an extra: of a file only the tiles or strips that are needed."""

from __future__ import annotations

import math
import mmap
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import sniff
from vitrail.data.media.limits import Broken
from vitrail.data.media.reading import Reading
from vitrail.data.media.samples import to_8_bits
from vitrail.data.media.tiff import PHOTOMETRIC, Tags, open_pages, read_tags

_KEPT_BYTES = 128_000_000  # of decoded tiles or strips, since neighbouring windows share them
_WHITE = 255


class WindowedTiff:
    """The pixels of a TIFF, of which a slice is read when it is asked for: ``image[:, 100:200, 50:90]``.

    Attributes:
        shape: (C, H, W); slices are uint8.

    Args:
        channels: 1, 3 or 4, or as many as there are bands.

    Raises:
        BadImage: a layout that is not read so, or another number of bands.
    """

    def __init__(self, path: str | Path, channels: int, reading: Reading) -> None:
        self.reading, self.channels = reading, channels
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            self.tags = _tags(data, reading)
        try:
            self._file = open_pages(str(path))
        except Broken as error:
            raise BadImage(str(error)) from None
        self._page: Any = self._file.pages[reading.page or 0]
        self._check()
        width, height = self.tags.size
        self.shape = (channels, height, width)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return self.channels

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        _, rows, columns = window
        stored = self._stored(*rows.indices(self.shape[1])[:2], *columns.indices(self.shape[2])[:2])
        return torch.from_numpy(np.ascontiguousarray(self._converted(stored).transpose(2, 0, 1)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self) -> None:
        tags = self.tags
        if tags.values.get(PHOTOMETRIC, (1,))[0] not in (0, 1, 2):
            self.close()
            raise BadImage("has colours that are not read window by window; save it as RGB or grey levels")
        own = tags.samples - tags.has_alpha
        if self.channels not in (own, tags.samples) and not (own == 1 and self.channels == 3):
            self.close()
            raise BadImage(f"has {tags.samples} channels, where {self.channels} are wanted")

    def _stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """The samples of a window as they are stored, (H, W, C)."""
        page, (width, height) = self._page, self.tags.size
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        part_height = page.tilelength if page.is_tiled else page.rowsperstrip
        part_width = page.tilewidth if page.is_tiled else width
        down, across = math.ceil(height / part_height), math.ceil(width / part_width)
        window = np.zeros((bottom - top, right - left, self.tags.samples), page.dtype)
        for plane in range(planes):
            for row in range(top // part_height, math.ceil(bottom / part_height)):
                for column in range(left // part_width, math.ceil(right / part_width)):
                    part = self._part((plane * down + row) * across + column)
                    y, x = row * part_height, column * part_width
                    own = part[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                    place = window[max(y - top, 0) :, max(x - left, 0) :][: own.shape[0], : own.shape[1]]
                    (place[..., plane : plane + 1] if planes > 1 else place)[:] = own
        return window

    def _part(self, index: int) -> np.ndarray:
        """A tile or strip, (h, w, C); the least recently used ones are forgotten."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        page, handle = self._page, self._file.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(page.databytecounts[index])
        try:
            decoded, _, shape = page.decode(data, index)
        except (ImportError, KeyError) as error:
            raise BadImage(f"needs an extra for its compression ({error}); run: pip install imagecodecs") from None
        part = np.zeros(shape[1:], page.dtype) if decoded is None else decoded[0, : shape[1], : shape[2]]
        self._kept[index] = part
        self._kept_bytes += part.nbytes
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return np.asarray(part)

    def _converted(self, stored: np.ndarray) -> np.ndarray:
        """uint8 (H, W, channels)."""
        try:
            pixels = to_8_bits(stored, self.reading, lambda _: None, self.tags.bits)
        except Broken as error:
            raise BadImage(str(error)) from None
        if self.tags.white_is_zero:
            pixels = _WHITE - pixels
        if self.tags.has_alpha and self.channels != self.tags.samples:
            alpha = pixels[..., -1:].astype(np.uint16)
            blended = pixels[..., :-1] * alpha + _WHITE * (_WHITE - alpha)
            pixels = ((blended + 127) // 255).astype(np.uint8)
        return np.repeat(pixels, self.channels, axis=2) if pixels.shape[2] == 1 else pixels


def open_windows(path: str | Path, channels: int, reading: Reading) -> WindowedTiff | None:
    """A TIFF that is too large to be decoded at once; None: another file, which is decoded or refused as any.

    Raises:
        BadImage: as :class:`WindowedTiff`.
    """
    try:
        with open(path, "rb") as file:
            if sniff(file.read(64)) != "TIFF":
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                width, height = _tags(data, reading).size
    except (OSError, ValueError, BadImage):  # which decoding tells
        return None
    if width * height <= limits.PIXELS.value and os.path.getsize(path) <= limits.BYTES.value:
        return None
    return WindowedTiff(path, channels, reading)


def _tags(data: mmap.mmap, reading: Reading) -> Tags:
    try:
        return read_tags(data, reading.page or 0)
    except Broken as error:
        raise BadImage(str(error)) from None
