"""Bytes from disk: regular files only, and never more than an image may have."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

from vitrail import files
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import MAX_FILE_BYTES


def open_regular(path: bytes | str | Path) -> BinaryIO:
    """A regular file of any size, open for reading from its beginning; never blocks on a FIFO.

    Raises:
        BadImage: missing, unreadable, or not a regular file.
    """
    try:
        file = cast("BinaryIO", open(files.no_wait(path), "rb", buffering=0))  # noqa: SIM115  the caller closes it
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadImage("is not a regular file")
    return file


def read_regular(path: bytes | str | Path, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of a regular file, from ``offset``; never blocks on a FIFO and never reads past the size cap.

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
            if wanted > MAX_FILE_BYTES:
                raise BadImage(f"has {wanted:,} bytes, more than the limit of {MAX_FILE_BYTES:,}")
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if size is not None and len(data) < size:
        raise BadImage(f"ends early: {len(data):,} of {size:,} bytes")
    return data
