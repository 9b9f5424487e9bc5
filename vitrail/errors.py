"""Errors for users: one line that repeats what was written and ends with what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

SHOWN = 20  # maximum number of names in a hint
_WORD, _LINE = 600, 1400  # characters of an error, in one word and in all
_SPLIT_BYTES = re.compile(r"\\udc([89a-f][0-9a-f])")  # bytes that are not UTF-8, as ``repr`` shows them


class UserError(ValueError):
    """Something the user wrote or supplied is wrong; the command line prints it as one line and exits with 2.

    Whatever names and values ``text`` repeats, it is one printable line of bounded length, so who raises it need not
    take care of that.
    """

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class MissingArgument(UserError):
    """What a command needs was left out; the command line adds an example."""


def did_you_mean(written: str, allowed: Iterable[str]) -> str:
    """A closing hint for an unknown name: the closest allowed one, or all of them."""
    names = [str(name) for name in allowed]
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(written.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    more = ", …" if len(names) > SHOWN else ""
    return f"choose one of: {', '.join(names[:SHOWN])}{more}" if names else "there is nothing to choose from"


def one_line(text: str) -> str:
    """``text`` as one printable line, of which the middle of endless words, and of all, is left out."""
    shown = _SPLIT_BYTES.sub(r"\\x\1", printable(text))
    return _cut(" ".join(_cut(word, _WORD) for word in shown.split(" ")), _LINE)


def printable(text: str) -> str:
    """``text`` on one line, with bytes that are not UTF-8, control characters and marks of direction escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _cut(text: str, most: int) -> str:
    """The beginning and the end of a longer text."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 + 1 :]}"
