"""The images of a command line: files, folders, globs, or ``-`` for standard input."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vitrail import fonts
from vitrail.console import note, printable, warn
from vitrail.errors import MissingArgument, UserError
from vitrail.files import literal_first, write_new

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.predictor import ImageLike, Sample

STDIN = "/dev/stdin"  # what the parser makes of `-`


def pictures(inputs: Sequence[str]) -> Iterator[ImageLike]:
    """Each image, as a path or a sample; folders are searched recursively.

    Raises:
        UserError: an input that matches nothing (raised before the first image).
    """
    if not inputs:
        raise MissingArgument("no pictures were named; give files, folders, quoted globs, or - for standard input")
    paths = [[STDIN] if each == STDIN else _expand(each) for each in inputs]
    return _each([path for group in paths for path in group])


def _each(paths: list[str]) -> Iterator[ImageLike]:
    for path in paths:
        if path != STDIN:
            yield path
        elif picture := _picture_from_stdin():
            yield picture
        else:
            yield from _lines_from_stdin()


class BadPictures:
    """The policy for unreadable images: stop at the first (``error``), or list them at the end (``skip``)."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.errors: list[UserError] = []

    def add(self, error: UserError) -> None:
        """Raise or keep the error, depending on the policy."""
        if self.policy == "error":
            raise error
        self.errors.append(error)

    def report(self, num_good: int) -> None:
        """List what was skipped.

        Raises:
            UserError: nothing was readable.
        """
        if not self.errors:
            return
        total = len(self.errors) + num_good
        warn(f"skipped {len(self.errors):,} of {total:,} pictures:")
        for error in self.errors:
            note(f"  {error}")
        if not num_good:
            raise UserError(f"none of the {total:,} pictures can be read; give others")


def save_new(drawing: Image.Image | Figure, path: Path) -> Path:
    """Write a .jpg or .png under this name, or name-2 and so on where the file exists; returns the path."""
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"cannot draw {path.name!r}; name it .png or .jpg")
    encoded = io.BytesIO()
    if isinstance(drawing, Image.Image):
        drawing.save(encoded, kind, quality=92)
    else:
        with fonts.named_missing():
            drawing.savefig(encoded, format=kind)
    return write_new(path, encoded.getvalue())


def stem_of(name: str) -> str:
    """The stem of the file names for figures of an image: its own without folder and suffix, 100 characters at most."""
    return os.path.splitext(os.path.basename(name))[0][:100] or "picture"


def file_name(label: str) -> str:
    """A name of a class as part of a file's name: letters, digits, ``-`` and ``_``, 60 characters at most."""
    return "".join(each if each.isalnum() or each in "-_" else "_" for each in label)[:60] or "picture"


def _expand(text: str) -> list[str]:
    """The files that one argument means."""
    if os.path.isdir(text):
        from vitrail.data.indexing.listing import scan

        listing = scan(text)
        listing.note_skipped(printable(text))
        if not len(listing):
            raise UserError(f"the folder {text!r} holds no images; give another")
        return [os.path.join(text, os.fsdecode(listing[i])) for i in range(len(listing))]
    if os.path.lexists(text):
        return [text]
    found = sorted(glob.glob(literal_first(text), recursive=True)) if glob.has_magic(text) else []
    if not found:
        what = "matches nothing" if glob.has_magic(text) else "does not exist"
        raise UserError(f"{text!r} {what}; give files, folders, quoted globs, or - for standard input")
    return [path for match in found for path in _expand(match)]


def _picture_from_stdin() -> Sample | None:
    """Standard input as one picture, or None where it is a list of paths.

    A list can begin like a picture (``BMW.jpg`` like a BMP), so what names a file is a list.
    """
    from vitrail.data.media.formats import sniff
    from vitrail.data.media.limits import BYTES, Broken
    from vitrail.predictor import Sample

    stream = _stdin()
    start = stream.peek(4096)
    first = start.replace(b"\0", b"\n").partition(b"\n")[0].rstrip(b"\r")
    try:
        sniff(start)
    except Broken:
        return None
    if os.path.lexists(first):
        return None
    data = stream.read(BYTES.value + 1)
    if len(data) > BYTES.value:
        raise UserError(f"standard input has more bytes than {BYTES}; give a smaller picture")
    return Sample("standard input", lambda: data)


def _stdin() -> io.BufferedReader:
    stream = sys.stdin.buffer
    assert isinstance(stream, io.BufferedReader)
    return stream


def _lines_from_stdin() -> Iterator[str]:
    """Paths a line, or between NUL bytes as ``find -print0`` writes them."""
    stream = _stdin()
    if b"\0" in stream.peek(4096):
        lines: Iterator[bytes] = iter(stream.read().split(b"\0"))
    else:
        lines = (line.rstrip(b"\r\n") for line in stream)
    return (os.fsdecode(line) for line in lines if line)
