"""Names of layers by PEFT's patterns, which are regular expressions: the part of those that matches within bounds.

A pattern is the name of a layer, or holds letters, digits, ``_``, ``-``, ``.`` for any character and ``\\d`` or
``[0-9]``, each perhaps with ``?``, ``*`` or ``+``. It is of the layers whose name it matches in full, or what follows a
dot in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vitrail.errors import UserError

V = TypeVar("V")
Token = tuple[str, str]
"""A character, ``.`` for any or ``d`` for a digit; and how often."""
_TOKEN = re.compile(r"(\\d|\[0-9\]|\\\.|\.|[\w-])([?*+]?)")
_MOST = 5_000_000  # characters of patterns × characters of names


def by_layer(patterns: Mapping[str, V], layers: Iterable[str]) -> dict[str, V]:
    """The value for each layer that a pattern is of; the first pattern counts, as in PEFT's ``get_pattern_key``.

    Raises:
        UserError: a pattern of another kind, or so many that matching them would take long.
    """
    layers = list(layers)
    plain = {pattern: place for place, pattern in enumerate(patterns) if re.fullmatch(r"[\w.-]+", pattern)}
    others = [(place, pattern, _tokens(pattern)) for place, pattern in enumerate(patterns) if pattern not in plain]
    if sum(len(pattern) for _, pattern, _ in others) * sum(map(len, layers)) > _MOST:
        raise UserError(f"{len(others):,} patterns for {len(layers):,} layers would take long; give names of layers")
    values, found = list(patterns.values()), {}
    for layer in layers:
        places = [plain[name] for start in _starts(layer) if (name := layer[start:]) in plain]
        places += [place for place, pattern, tokens in others if _matches(pattern, tokens, layer)]
        if places:
            found[layer] = values[min(places)]
    return found


def _starts(layer: str) -> list[int]:
    return [0, *(place + 1 for place, character in enumerate(layer) if character == ".")]


def _tokens(pattern: str) -> list[Token]:
    bare = pattern.removeprefix("^").removesuffix("$")
    found = [(match[1], match[2]) for match in _TOKEN.finditer(bare)]
    if "".join(kind + times for kind, times in found) != bare:
        raise UserError(
            f"the pattern {pattern[:100]!r} for layers is no name in which . stands for any character and \\d for a "
            "digit, each with ?, * or +; merge it with PEFT's merge_and_unload"
        )
    kinds = {r"\d": "d", "[0-9]": "d", r"\.": "\\"}
    return [(kinds.get(kind, kind) if len(kind) > 1 or kind == "." else f"={kind}", times) for kind, times in found]


def _matches(pattern: str, tokens: Iterable[Token], layer: str) -> bool:
    """All ways are followed at once, so that time grows with the length of both alone."""
    at = {0} if pattern.startswith("^") else {*_starts(layer)}
    for kind, times in tokens:
        after = {place + 1 for place in at if place < len(layer) and _fits(kind, layer[place])}
        if times in ("*", "+"):
            for place in range(min(after, default=len(layer)), len(layer)):
                if place in after and _fits(kind, layer[place]):
                    after.add(place + 1)
        at = at | after if times in ("?", "*") else after
    return len(layer) in at


def _fits(kind: str, character: str) -> bool:
    match kind:
        case ".":
            return True
        case "d":
            return character.isdigit()
        case "\\":
            return character == "."
        case _:
            return kind == f"={character}"
