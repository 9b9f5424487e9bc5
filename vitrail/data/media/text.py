"""Text files as editors leave them: a byte-order mark, or UTF-16, is told by the first bytes."""

from __future__ import annotations

import codecs
from pathlib import Path

from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import read_regular

_MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte-order mark names, which it takes off; None without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def read_text(path: bytes | str | Path) -> str:
    """The text of a regular file, without a byte-order mark.

    Raises:
        BadImage: it cannot be read, or is in another encoding; the cause, without its name.
    """
    data = read_regular(path, most=ANNOTATION_BYTES)
    try:
        return data.decode(marked_encoding(data[:4]) or "utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadImage(f"is no UTF-8 text in line {line}; save it as UTF-8") from None


def read_lines(path: bytes | str | Path) -> list[str]:
    """Its lines that are not empty, without the white space around them. Raises as :func:`read_text`."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]
