"""Errors for users: one line that repeats what was written and ends with what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 20  # maximum number of names in a hint
LONGEST = 1400  # characters of an error; of more, those in the middle are left out


class UserError(ValueError):
    """Something the user wrote or supplied is wrong; the command line prints it as one line and exits with 2."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 400]} … {text[-300:]}"


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
