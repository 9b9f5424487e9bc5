"""Large TIFFs read window by window, by tifffile, an extra: of a file only the tiles or strips that are needed."""

from __future__ import annotations

import math
import mmap
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitrail.data.media import limits, tiff_gate
from vitrail.data.media.decode import bad
from vitrail.data.media.formats import sniff
from vitrail.data.media.limits import Broken
from vitrail.data.media.reading import Reading
from vitrail.data.media.samples import to_8_bits
from vitrail.data.media.tiff import Page, missing_codec, open_pages, read_tags

_KEPT_BYTES = 128_000_000  # of decoded tiles or strips, since neighbouring windows share them
_WHITE = 255
_APART = 2  # PlanarConfiguration


class WindowedTiff:
    """The pixels of a TIFF, of which a slice is read when it is asked for: ``image[:, 100:200, 50:90]``.

    In another process the file is opened again.

    Attributes:
        shape: (C, H, W); slices are uint8.

    Args:
        channels: 1, 3 or 4, or as many as there are bands.

    Raises:
        BadImage: a layout that is not read so, another number of bands, or no extra.
    """

    def __init__(self, path: str | Path, channels: int, reading: Reading) -> None:
        self.path, self.reading, self.channels = path, reading, channels
        try:
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                tiff_gate.gate(data, reading.page or 0)
                self.tags = read_tags(data, reading.page or 0)
            self._file = open_pages(str(path))
            self._page: Page = self._file.pages[reading.page or 0]
            self._check()
        except Exception as error:  # as in decode
            self.close()
            raise bad(error) from None
        width, height = self.tags.size
        self.shape = (channels, height, width)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return self.channels

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        """Raises BadImage where the file is damaged, or an extra for its compression is missing."""
        _, rows, columns = window
        try:
            stored = self.stored(*rows.indices(self.shape[1])[:2], *columns.indices(self.shape[2])[:2])
            return torch.from_numpy(np.ascontiguousarray(self._converted(stored).transpose(2, 0, 1)))
        except Exception as error:  # as in decode
            raise bad(error) from None

    def __reduce__(self) -> tuple[type[WindowedTiff], tuple[str | Path, int, Reading]]:
        return WindowedTiff, (self.path, self.channels, self.reading)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()

    def _check(self) -> None:
        tags, page = self.tags, self._page
        if not tags.has_plain_colours:
            raise Broken("has colours that are not read window by window; save it as RGB or grey levels")
        own = tags.samples - tags.has_alpha
        if self.channels not in (own, tags.samples) and not (own == 1 and self.channels == 3):
            raise Broken(f"has {tags.samples} channels, where {self.channels} are wanted")
        height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, tags.size[0])
        if height < 1 or width < 1:
            raise Broken("is damaged: its tiles or strips have no pixels")
        self._part_size = min(height, tags.size[1]), width
        if not self._plain:
            samples = 1 if page.planarconfig == _APART else tags.samples
            limits.check_memory((width, height), height * width * samples * page.dtype.itemsize)

    @property
    def _plain(self) -> bool:
        """Whether rows lie in the file as they are, and can be read one by one, however long the strips are."""
        page = self._page
        whole = self.tags.bits == 8 * page.dtype.itemsize
        return page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and whole and not page.is_tiled

    def stored(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """The samples of a window as they are stored, (H, W, C). Raises Broken, and what decoders raise."""
        page, (width, height), (part_height, part_width) = self._page, self.tags.size, self._part_size
        planes = self.tags.samples if page.planarconfig == _APART else 1
        down, across = math.ceil(height / part_height), math.ceil(width / part_width)
        window = np.zeros((bottom - top, right - left, self.tags.samples), page.dtype)
        for plane in range(planes):
            for row in range(top // part_height, math.ceil(bottom / part_height)):
                for column in range(left // part_width, math.ceil(right / part_width)):
                    index = (plane * down + row) * across + column
                    y, x = row * part_height, column * part_width
                    first, last = max(top - y, 0), min(bottom - y, part_height, height - y)
                    own = self._rows(index, first, last) if self._plain else self._part(index)[first:last]
                    own = own[:, max(left - x, 0) : right - x]
                    place = window[max(y - top, 0) :, max(x - left, 0) :][: own.shape[0], : own.shape[1]]
                    (place[..., plane : plane + 1] if planes > 1 else place)[:] = own
        return window

    def _rows(self, index: int, first: int, last: int) -> np.ndarray:
        """Rows of a strip that is not compressed, (h, W, C)."""
        page, file, width = self._page, self._file.filehandle, self.tags.size[0]
        samples = 1 if page.planarconfig == _APART else self.tags.samples
        length = width * samples * page.dtype.itemsize
        file.seek(page.dataoffsets[index] + first * length)
        found = file.read((last - first) * length)
        if len(found) < (last - first) * length:
            raise Broken("is cut short: the TIFF ends within its pixels")
        order = page.dtype.newbyteorder("<" if self.tags.order == "<" else ">")
        return np.frombuffer(found, order).reshape(last - first, width, samples)

    def _part(self, index: int) -> np.ndarray:
        """A tile or strip, (h, w, C); the least recently used ones are forgotten."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        page, file = self._page, self._file.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(min(page.databytecounts[index], limits.MEMORY.value))
        try:
            decoded, _, shape = page.decode(data, index)
        except (ImportError, KeyError, ValueError) as error:
            raise missing_codec(error) from None
        part = np.zeros(shape[1:], page.dtype) if decoded is None else decoded[0, : shape[1], : shape[2]]
        self._kept[index] = part
        self._kept_bytes += part.nbytes
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return np.asarray(part)

    def _converted(self, stored: np.ndarray) -> np.ndarray:
        """uint8 (H, W, channels)."""
        pixels = to_8_bits(stored, self.reading, lambda _: None, self.tags.bits)
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
    return WindowedTiff(path, channels, reading) if is_large(path, reading) else None


def is_large(path: str | Path, reading: Reading) -> bool:
    """Whether a file is a TIFF of more pixels or bytes than are decoded at once."""
    try:
        with open(path, "rb") as file:
            if sniff(file.read(64)) != "TIFF":
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                width, height = read_tags(data, reading.page or 0).size
    except (OSError, ValueError):  # which decoding tells
        return False
    return width * height > limits.PIXELS.value or os.path.getsize(path) > limits.BYTES.value
