"""What a TIFF holds, from its tags: bands, bits, which of its samples is transparency; and pixels that Pillow lacks.

Pillow takes every fourth sample for transparency where the file says nothing, and reads no more than a few layouts. A
sample is transparency only where the tag ExtraSamples says so (TIFF 6.0, section 18). Other layouts are read by
tifffile, an extra: more bands than four, 16 bits in several bands, floating point in several bands, BigTIFF windows.
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import numpy as np

from vitrail.data.media import limits, tiff_gate
from vitrail.data.media.limits import Broken

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of the values that are asked for
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}  # samples of each photometric interpretation
_ALPHA = (1, 2)  # associated, unassociated
_MOST_PAGES = 100_000
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA, FORMAT = 256, 257, 258, 259, 262, 277, 338, 339
_WANTED = (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA, FORMAT)
_OF_PILLOW = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34676, 34677, 34925, 50000))  # compressions
PLAIN_COLOURS = (0, 1, 2)  # grey levels and RGB


@dataclass(frozen=True)
class Tags:
    """The tags of a page that decide its pixels.

    Attributes:
        values: by tag.
        extra_at: where the value of ExtraSamples lies in the file, if there is one.
        several: whether the file has more pages.
    """

    values: dict[int, tuple[int, ...]]
    extra_at: int | None
    order: str
    several: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self._one(WIDTH, 0), self._one(HEIGHT, 0)

    @property
    def samples(self) -> int:
        """Of a pixel."""
        return self._one(SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self._one(BITS, 1)

    @property
    def white_is_zero(self) -> bool:
        """Whether 0 is white."""
        return self._one(PHOTOMETRIC, 1) == 0

    @property
    def needs_codec(self) -> bool:
        """Whether it is compressed in a way that Pillow does not read, such as JPEG 2000, JPEG XL, LERC or WebP."""
        return self._one(COMPRESSION, 1) not in _OF_PILLOW

    @property
    def has_plain_colours(self) -> bool:
        """Whether samples are grey levels or RGB."""
        return self._one(PHOTOMETRIC, 1) in PLAIN_COLOURS

    @property
    def has_alpha(self) -> bool:
        """Whether the file says that its last sample is transparency."""
        extra = self.values.get(EXTRA, ())
        return self.samples == self._colours + 1 and len(extra) == 1 and extra[0] in _ALPHA

    @property
    def are_bands(self) -> bool:
        """Whether there are more samples than colours and transparency, or of a colour less."""
        return self.samples != self._colours + self.has_alpha

    @property
    def _colours(self) -> int:
        return _COLOURS.get(self._one(PHOTOMETRIC, 1), 0)

    def _one(self, tag: int, default: int) -> int:
        return (self.values.get(tag) or (default,))[0]


def read_tags(data: bytes | mmap.mmap, page: int = 0) -> Tags:
    """The tags of a page, from 0 on.

    Raises:
        Broken: no such page, or a damaged list of tags.
    """
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        for number in range(_MOST_PAGES):
            if not at or at in seen:
                raise Broken(f"has {number} page{'s' * (number != 1)}, so none is number {page} (they count from 0)")
            seen.add(at)
            values, extra_at, at = _directory(data, at, order, big, wanted=number == page)
            if number == page:
                return Tags(values, extra_at, order, bool(at) or number > 0)
    except struct.error:
        pass
    raise Broken("is a damaged TIFF: its tags lead beyond its end")


def tiff_size(data: bytes | mmap.mmap) -> tuple[int, int]:
    """(height, width) of the first page, which may be more than are decoded at once.

    Raises:
        Broken: a damaged list of tags, or no pixels.
    """
    tiff_gate.gate(data)
    width, height = read_tags(data).size
    limits.check_pixels((width, height), max(width * height, 1))
    return height, width


def _directory(
    data: bytes | mmap.mmap, at: int, order: str, big: bool, *, wanted: bool
) -> tuple[dict[int, tuple[int, ...]], int | None, int]:
    """(values by tag, place of the value of ExtraSamples, where the next directory is)."""
    count_format, entry_size, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    (count,) = struct.unpack_from(order + count_format, data, at)
    begin = at + struct.calcsize(order + count_format)
    values: dict[int, tuple[int, ...]] = {}
    extra_at = None
    for entry in range(count) if wanted else ():
        place = begin + entry * entry_size
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, place)
        if tag not in _WANTED or kind not in _TYPES or number > 0xFFFF:
            continue
        form = f"{order}{number}{_TYPES[kind]}"
        value_at = place + entry_size - inline
        if struct.calcsize(form) > inline:
            (value_at,) = struct.unpack_from(order + ("Q" if big else "I"), data, value_at)
        values[tag] = struct.unpack_from(form, data, value_at)
        extra_at = value_at if tag == EXTRA else extra_at
    (after,) = struct.unpack_from(order + ("Q" if big else "I"), data, begin + count * entry_size)
    return values, extra_at, after


def with_stated_alpha(data: bytes, tags: Tags) -> bytes:
    """A TIFF of four 8-bit samples of which Pillow reads all: the last is called transparency, where that is denied."""
    if tags.extra_at is None:
        return data
    patched = struct.pack(tags.order + "H", 2)
    return data[: tags.extra_at] + patched + data[tags.extra_at + 2 :]


def read_bands(data: bytes, page: int) -> np.ndarray:
    """All samples of a page as they are stored, (H, W, C), by tifffile.

    Raises:
        Broken: without the extra, or where the page's compression needs one.
    """
    with open_pages(io.BytesIO(data)) as file:
        return bands_of(file.pages[page])


class Page(Protocol):
    """What is used of tifffile's description of a page.

    Tiles or strips are numbered row by row and, where bands are apart, band by band.
    """

    axes: str
    dtype: np.dtype
    samplesperpixel: int
    planarconfig: int
    compression: int
    predictor: int
    fillorder: int
    is_tiled: bool
    tilelength: int
    tilewidth: int
    rowsperstrip: int
    dataoffsets: Sequence[int]
    databytecounts: Sequence[int]

    def asarray(self) -> np.ndarray:
        """All pixels along ``axes``."""

    def decode(
        self, data: bytes, index: int, /
    ) -> tuple[np.ndarray | None, tuple[int, ...], tuple[int, int, int, int]]:
        """A tile or strip (1, h, w, C), its place, and its shape in the picture; None where the file holds none."""


class PagedFile(Protocol):
    """What is used of tifffile's reader of a file."""

    pages: Sequence[Page]
    filehandle: BinaryIO

    def __enter__(self) -> PagedFile: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Close the file."""


def bands_of(page: Page) -> np.ndarray:
    """The samples of a page, (H, W, C).

    Raises:
        Broken: the extra for its compression is missing, or it has other axes.
    """
    try:
        pixels = page.asarray()
    except (ImportError, KeyError, ValueError) as error:
        raise missing_codec(error) from None
    if page.axes == "YX":
        return np.asarray(pixels[..., None])
    if page.axes not in ("YXS", "SYX"):
        raise Broken(f"has pixels along the axes {page.axes}; rows, columns and bands are wanted")
    return np.asarray(pixels if page.axes == "YXS" else pixels.transpose(1, 2, 0))


def missing_codec(error: Exception) -> Exception:
    """What to do where tifffile lacks the decoder of a compression, of which it raises a ValueError; other errors as
    they are."""
    if isinstance(error, ValueError) and "COMPRESSION" not in str(error):
        return error
    return Broken(f"is compressed so that an extra is needed ({error}); run: pip install 'vitrail[tiff]'")


def open_pages(file: str | BinaryIO) -> PagedFile:
    """tifffile's reader of a path or stream.

    Raises:
        Broken: without the extra.
    """
    try:
        import tifffile
    except ImportError:
        raise Broken("is a TIFF that needs an extra; run: pip install 'vitrail[tiff]'") from None
    return cast("PagedFile", tifffile.TiffFile(file))
