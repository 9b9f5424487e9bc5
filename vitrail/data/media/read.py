"""Bytes from disk: regular files only, and never more than an image may have."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vitrail import files
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import MAX_FILE_BYTES
from vitrail.data.media.reading import MAX_PIXELS, max_pixels


def file_limit() -> int:
    """Bytes that an image file may have: 100 MB, and as many times more as the limit of pixels is raised."""
    return MAX_FILE_BYTES * max(max_pixels(), MAX_PIXELS) // MAX_PIXELS


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
            if wanted > (limit := file_limit()):
                raise BadImage(
                    f"has {wanted:,} bytes, more than the limit of {limit:,}; make it smaller, or raise the limit with "
                    f"--max-pixels {wanted * MAX_PIXELS // MAX_FILE_BYTES + 1}"
                )
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        raise BadImage(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if size is not None and len(data) < size:
        raise BadImage(f"ends early: {len(data):,} of {size:,} bytes")
    return data
