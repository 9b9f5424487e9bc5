"""Which layer of a block is which, by shapes first, then by the words in their names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitrail.checkpoints.naming.layers import Layer

Assignment = Mapping[str, Layer]
"""The layer of each role."""
ATTENTION = re.compile(r"attn|attention|qkv|in_proj|mha|msa|to_q|to_out", re.IGNORECASE)
FEED_FORWARD = re.compile(r"mlp|ffn|ff\b|feed|dense|linear[_.]?[12]|fc[_.]?\d|intermediate|\bnet\b", re.IGNORECASE)
WORDS = {
    "qkv": r"qkv|in_proj|c_attn|attn_in",
    "q": r"(^|[._])(to_|w_?)?q(uery|ueries)?(_?(proj|lin(ear)?))?$",
    "k": r"(^|[._])(to_|w_?)?k(eys?)?(_?(proj|lin(ear)?))?$",
    "v": r"(^|[._])(to_|w_?)?v(alues?)?(_?(proj|lin(ear)?))?$",
    "kv": r"kv",
    "out": r"out|(^|[._])o(_proj)?$|wo$|proj|dense",
    "fc1": r"(fc|linear|lin|dense|layer|w)_?1|c_fc|up|intermediate|expand|(mlp|net|ffn?|feed_forward|layers)\.[01]$",
    "fc2": r"(fc|linear|lin|dense|layer|w)_?2|c_proj|down|output|contract|(mlp|net|ffn?|feed_forward|layers)\.[2-9]$",
}
KINDS = (("qkv", "out", "fc1", "fc2"), ("q", "k", "v", "out", "fc1", "fc2"), ("q", "kv", "out", "fc1", "fc2"))


@dataclass(frozen=True)
class Matched:
    """The most likely assignment.

    Attributes:
        sure: no other one of these shapes is as likely by the names.
    """

    layers: Assignment
    sure: bool


def matrices(found: Sequence[Layer], dim: int) -> Matched | None:
    """Queries, keys, values, output and MLP among matrices of (out, in); None: their shapes fit no block."""
    scored = sorted(((_score(each), each) for each in _fitting(found, dim)), key=lambda pair: pair[0], reverse=True)
    if not scored:
        return None
    return Matched(scored[0][1], len(scored) == 1 or scored[0][0] > scored[1][0])


def norms(found: Sequence[Layer], assigned: Assignment) -> Matched | None:
    """The norm of the attention branch and that of the MLP; None: there are not two."""
    if len(found) != 2:
        return None
    attention, mlp = next(iter(assigned.values())).path, assigned["fc1"].path
    scored = []
    for first, second in (found, reversed(found)):
        score = _shared(first.path, attention) + _shared(second.path, mlp)
        score -= _shared(first.path, mlp) + _shared(second.path, attention)
        words = _is_first(first.path) - _is_first(second.path)
        scored.append(((score, words, -_natural(first.path, second.path)), {"norm1": first, "norm2": second}))
    scored.sort(key=lambda pair: pair[0], reverse=True)
    return Matched(scored[0][1], scored[0][0][:2] != scored[1][0][:2])


def in_order(found: Iterable[Layer]) -> list[Layer]:
    """By the numbers in their names, then by the names."""
    return sorted(found, key=lambda layer: _numbered(layer.path))


def _numbered(path: str) -> list[tuple[int, str]]:
    """A path by whose value numbers in it count as such, however long."""
    return [(len(p.lstrip("0")), p) if place % 2 else (0, p) for place, p in enumerate(re.split(r"([0-9]+)", path))]


def _fitting(found: Sequence[Layer], dim: int) -> Iterator[Assignment]:
    for roles in KINDS:
        if len(roles) != len(found):
            continue
        for order in itertools.permutations(found):
            assignment = dict(zip(roles, order, strict=True))
            if _fits({role: layer.shape for role, layer in assignment.items()}, dim):
                yield assignment


def _fits(shapes: Mapping[str, tuple[int, ...]], dim: int) -> bool:
    inner = shapes["out"][1]
    heights = {"qkv": 3 * inner, "q": inner, "k": inner, "v": inner, "kv": 2 * inner}
    projections = all(shapes[role] == (height, dim) for role, height in heights.items() if role in shapes)
    hidden = shapes["fc2"][1]
    gated_or_not = shapes["fc1"] in ((hidden, dim), (2 * hidden, dim))
    return projections and gated_or_not and shapes["out"][0] == dim == shapes["fc2"][0]


def _score(assignment: Assignment) -> tuple[int, int, int]:
    words = sum(bool(re.search(WORDS[role], layer.path, re.IGNORECASE)) for role, layer in assignment.items())
    parts = 0
    for role, layer in assignment.items():
        attention, mlp = bool(ATTENTION.search(layer.path)), bool(FEED_FORWARD.search(layer.path))
        parts += (mlp - attention) if role.startswith("fc") else (attention - mlp)
    inside = [layer.path for role, layer in assignment.items() if not role.startswith("fc")]
    together = min(_shared(a, b) for a in inside for b in inside)
    together += _shared(assignment["fc1"].path, assignment["fc2"].path)
    return parts, words, together


def _shared(one: str, other: str) -> int:
    """How many parts of a path two names begin with alike."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_first(path: str) -> int:
    return bool(re.search(r"1$|before|attn|attention|msa|pre", path)) - bool(re.search(r"2$|after|mlp|ff|post", path))


def _natural(first: str, second: str) -> int:
    keys = [_numbered(path) for path in (first, second)]
    return (keys[0] > keys[1]) - (keys[0] < keys[1])
