"""The files of a ``multipart/form-data`` body that is there as a whole (RFC 7578, RFC 2046 section 5.1)."""

from __future__ import annotations

import re

from vitrail.serve.refusals import Refused, malformed

BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))\s*(?:;|$)""", re.ASCII | re.IGNORECASE)
FILENAME = re.compile(rb";\s*filename\*?\s*=", re.IGNORECASE)
NAME = re.compile(rb";\s*name\*?\s*=", re.IGNORECASE)
DISPOSITION = re.compile(rb"^content-disposition[ \t]*:[ \t]*form-data\b([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
MAX_HEADERS = 8192  # bytes before the contents of a part
WRONG = "the body is no valid multipart/form-data"


def files(body: bytes, content_type: str, max_files: int) -> list[bytes]:
    """The contents of all parts with a file name, in order, whatever their field is called.

    Time is linear in the body's length: parts are counted before any is looked at.

    Raises:
        Refused: 400 malformed, 413 more files than may be, or as many other fields.
    """
    found = BOUNDARY.search(content_type)
    if found is None:
        raise malformed(f"{WRONG}: its content type names no boundary")
    mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    whole = b"\r\n" + body  # the first mark may be the beginning
    if whole.count(mark) > 2 * max_files + 1:
        raise Refused(413, f"more than {max_files} images; send several requests (--max-images)", "too many images")
    pieces = whole.split(mark)[1:]  # without the preamble
    if not pieces or pieces[-1][:2] != b"--":
        raise malformed(f"{WRONG}: its end is missing")
    contents = [_contents(piece) for piece in pieces[:-1]]
    images = [each for each in contents if each is not None]
    if len(images) > max_files:
        raise Refused(413, f"more than {max_files} images; send several requests (--max-images)", "too many images")
    return images


def _contents(piece: bytes) -> bytes | None:
    """Of a part with a file name; None of another field."""
    start = len(piece) - len(piece[:MAX_HEADERS].lstrip(b" \t")) if piece[:1] in (b" ", b"\t") else 0
    end = piece.find(b"\r\n\r\n", start, MAX_HEADERS)
    if piece[start : start + 2] != b"\r\n" or end < 0:
        raise malformed(f"{WRONG}: a part has no headers")
    disposition = DISPOSITION.search(piece[start + 2 : end])
    if disposition is None or not NAME.search(disposition[1]):
        raise malformed(f"{WRONG}: a part has no Content-Disposition with a name")
    return piece[end + 4 :] if FILENAME.search(disposition[1]) else None
