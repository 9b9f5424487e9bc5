"""Annotations in JSON of any size: one entry after the other, so that no more than a few of them are in memory."""

from __future__ import annotations

import codecs
import json
import json.scanner
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import open_regular
from vitrail.errors import UserError

CHUNK = 2**22  # bytes that are read at once
MOST = 2**28  # characters that a single entry may have
_HEAD = 2**16
_KEY = re.compile(rb'"([A-Za-z_]+)"\s*:')
_SPACE = " \t\n\r"


def keys_near_ends(file: Path) -> frozenset[str]:
    """The keys, of any depth, in the first and the last 64 KB of a file; empty where it cannot be read."""
    try:
        with open_regular(file) as stream:
            parts = [stream.read(_HEAD)]
            length = stream.seek(0, 2)
            if length > _HEAD:
                stream.seek(max(length - _HEAD, _HEAD))
                parts.append(stream.read(_HEAD))
    except (BadImage, OSError):
        return frozenset()
    if parts[0][:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        parts = [part.replace(b"\0", b"") for part in parts]
    return frozenset(key.decode() for part in parts for key in _KEY.findall(part))


def read_entries(file: Path, sections: Mapping[str, object], wanted: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(section, place in it, entry) of the lists of mappings that ``sections`` names, in the order of the file.

    Args:
        wanted: what such files are, for an error.

    Raises:
        UserError: it cannot be read, is no JSON, or lacks a section; found where the iteration comes to it.
    """
    missing = f", as {wanted} have; give such a file"
    counts: dict[str, int] = {}
    try:
        with open_regular(file) as stream:
            text = _Text(stream)
            if text.look() != "{":
                text.value()
                raise UserError(f"{file} has no list {next(iter(sections))!r}{missing}")
            for key in text.members():
                if key not in sections or text.look() != "[":
                    text.value()
                    continue
                for place, entry in enumerate(text.items(), start=counts.setdefault(key, 0)):
                    if not isinstance(entry, dict):
                        raise UserError(f"{file} has no list {key!r}{missing}")
                    yield key, place, entry
                    counts[key] = place + 1
            if text.look():
                raise _Broken(f"more follows after its end, at character {text.position}")
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except (_Broken, UnicodeDecodeError, RecursionError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
        raise UserError(f"{file} is no JSON: {reason}; write it again") from None
    for key in sections:
        if key not in counts:
            raise UserError(f"{file} has no list {key!r}{missing}")


class _Broken(ValueError):
    """What was read is no JSON."""


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    """(text, place) → (the value that begins there, where it ends). Raises StopIteration or JSONDecodeError."""
    make: Callable[[json.JSONDecoder], Callable[[str, int], tuple[Any, int]]] = vars(json.scanner)["make_scanner"]
    return make(json.JSONDecoder())


class _Text:
    """A window that moves over the text of a file."""

    def __init__(self, stream: BinaryIO) -> None:
        head = stream.read(CHUNK)
        self._stream, self._scan = stream, _scanner()
        encoding = json.detect_encoding(head)
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ended = False
        self._window, self._at, self._before = self._decoder.decode(head), 0, 0

    @property
    def position(self) -> int:
        """How many characters lie before."""
        return self._before + self._at

    def look(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            window, at = self._window, self._at
            while at < len(window) and window[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(window):
                return window[at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The next value."""
        self.look()
        while True:
            try:
                value, end = self._scan(self._window, self._at)
            except (StopIteration, json.JSONDecodeError) as error:
                if self._more():
                    continue
                at = error.pos if isinstance(error, json.JSONDecodeError) else int(error.value)
                what = error.msg if isinstance(error, json.JSONDecodeError) else "a value is missing"
                raise _Broken(f"{what} at character {self._before + at}") from None
            if end == len(self._window) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here; whoever takes one reads its value."""
        for _ in self._parts("{", "}"):
            key = self.value()
            if not isinstance(key, str):
                raise _Broken(f"a key is no text at character {self.position}")
            self._take(":")
            yield key

    def items(self) -> Iterator[Any]:
        """The values of the list that begins here."""
        for _ in self._parts("[", "]"):
            yield self.value()

    def _parts(self, begin: str, end: str) -> Iterator[None]:
        self._take(begin)
        if self.look() == end:
            self._take(end)
            return
        while True:
            yield
            if self.look() != ",":
                self._take(end)
                return
            self._take(",")

    def _take(self, mark: str) -> None:
        found = self.look()
        if found != mark:
            shown = repr(found) if found else "the end"
            raise _Broken(f"{mark!r} is expected at character {self.position}, and there is {shown}")
        self._at += 1

    def _more(self) -> bool:
        """Read on; False at the end of the file. What was used is dropped."""
        if self._ended:
            return False
        rest = self._window[self._at :]
        if len(rest) > MOST:
            raise _Broken(f"an entry of more than {MOST:,} characters begins at character {self.position}")
        data = self._stream.read(max(CHUNK, len(rest)))
        self._ended = not data
        self._before += self._at
        self._window, self._at = rest + self._decoder.decode(data, self._ended), 0
        return True


def read_json(file: Path) -> Any:
    """The content of a whole file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        with open_regular(file) as stream:
            return json.loads(stream.read())
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {str(error).splitlines()[0]}; write it again") from None
