"""Bytes from disk: regular files only, and never more than an image may have."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import BinaryIO

from vitrail import files
from vitrail.data.media import decode, limits
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import TIFF_MARKS
from vitrail.data.media.tiff import tiff_size

_HEADER = 2**18  # bytes that most formats state their size in


def read_regular(
    path: bytes | str | Path, offset: int = 0, size: int | None = None, *, most: limits.Limit = limits.BYTES
) -> bytes:
    """The bytes of a regular file, from ``offset``; never blocks on a FIFO and never reads more than ``most``.

    Raises:
        BadImage: missing, unreadable, not a regular file, too large, or shorter than ``size``.
    """
    try:
        descriptor = files.no_wait(path)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("is not a regular file")
            wanted = status.st_size - offset if size is None else size
            if wanted > most.value:
                raise BadImage(f"has {wanted:,} bytes, more than {most}{_how_to_raise(wanted, most)}")
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage("cannot be read: no path holds a NUL") from None
    if size is not None and len(data) < size:
        raise BadImage(f"ends early: {len(data):,} of {size:,} bytes")
    return data


def _how_to_raise(wanted: int, most: limits.Limit) -> str:
    if not most.grows:
        return ""
    pixels = wanted * limits.PIXELS.default // most.default + 1
    return f"; make it smaller, or raise the limit with {limits.PIXELS.option} {pixels}"


def open_regular(path: bytes | str | Path) -> BinaryIO:
    """A regular file of any size, open for reading; never waits for the writer of a FIFO.

    Raises:
        BadImage: missing, unreadable, not a regular file, or a path with a NUL.
    """
    try:
        return open(path, "rb", opener=files.regular)
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except ValueError:
        raise BadImage("cannot be read: no path holds a NUL") from None


def read_size(path: bytes | str | Path) -> tuple[int, int]:
    """(height, width) of an image file after its EXIF orientation, from its first bytes where they state it.

    Raises:
        BadImage: the cause, without the file's name.
    """
    try:
        beginning = read_regular(path, 0, min(_HEADER, os.stat(path).st_size))
    except (OSError, ValueError):
        beginning = b""
    try:
        return decode.upright_size(beginning)
    except BadImage:
        if beginning.startswith(TIFF_MARKS):  # which may have its tags behind all pixels
            return _size_of_tiff(path)
        whole = read_regular(path)
        if len(whole) == len(beginning):
            raise
        return decode.upright_size(whole)


def _size_of_tiff(path: bytes | str | Path) -> tuple[int, int]:
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return tiff_size(data)
        except limits.Broken as error:
            raise BadImage(str(error)) from None
