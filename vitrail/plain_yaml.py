"""YAML as plain values, with bounds: aliases do not multiply, and what PyYAML cannot build is one error."""

from __future__ import annotations

import os
from collections.abc import Iterable

import yaml

from vitrail.errors import UserError

MAX_NODES = 100_000
"""Values that a text may hold, each as often as aliases repeat it; the environment variable changes it."""
VARIABLE = "VITRAIL_MAX_YAML_NODES"
MAX_DEPTH = 100
MAX_INTEGER_BITS = 1024
_BYTES_A_NODE = 64
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast


class YamlError(ValueError):
    """No YAML, or more of it than allowed; the message is one line."""


def parse(text: str | bytes) -> object:
    """The value of a YAML text.

    Raises:
        YamlError: it is malformed, too large, too deep, refers to itself, or holds a value that cannot be built.
    """
    most = _most()
    if len(text) > _BYTES_A_NODE * most:
        raise YamlError(f"it has {len(text):,} bytes, more than {_BYTES_A_NODE} × {most:,} ({VARIABLE})")
    try:
        _check(yaml.parse(text, Loader=_LOADER), most)
        value: object = yaml.load(text, Loader=_LOADER)
        _check_integers(value)
    except YamlError:
        raise
    except Exception as error:  # PyYAML builds dates, numbers and keys with whatever these raise
        raise YamlError((str(error).splitlines() or [type(error).__name__])[0]) from None
    return value


def _most() -> int:
    text = os.environ.get(VARIABLE)
    if not text:
        return MAX_NODES
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not int(text):
        raise UserError(f"{VARIABLE}={text!r} is no limit; give a positive integer, such as {MAX_NODES}")
    return int(text)


def _check(events: Iterable[yaml.Event], most: int) -> None:
    """Count values and depth before any value is built."""
    count = 0
    sizes: dict[str, int] = {}  # of finished anchors
    depths: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    deepest: list[int] = []

    def finish(anchor: str | None, before: int, depth: int) -> None:
        if anchor is not None:
            sizes[anchor], depths[anchor] = count - before, depth
        if deepest:
            deepest[-1] = max(deepest[-1], depth + 1)

    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise YamlError(f"the alias *{event.anchor} refers to itself or to nothing")
            count += sizes[event.anchor]
            finish(None, count, depths[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            finish(event.anchor, count - 1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                sizes.pop(event.anchor, None)
            open_nodes.append((event.anchor, count))
            deepest.append(0)
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            finish(anchor, before, deepest.pop())
        if count > most:
            raise YamlError(f"it holds more than {most:,} values ({VARIABLE})")
        if len(open_nodes) > MAX_DEPTH or (deepest and len(open_nodes) + deepest[-1] > MAX_DEPTH):
            raise YamlError(f"it is nested more than {MAX_DEPTH} deep")


def _check_integers(value: object) -> None:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            pending += each
        elif isinstance(each, int) and each.bit_length() > MAX_INTEGER_BITS:
            raise YamlError(f"it holds an integer of {each.bit_length():,} bits")
