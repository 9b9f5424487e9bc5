"""A config as YAML in which each setting has a comment: what its class says of it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import TYPE_CHECKING

from vitrail.config import dump, to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance

WIDTH = 110
ENTRY = re.compile(r"(\w+(?:, \w+)*): (.+)")


def commented(config: DataclassInstance) -> str:
    """The whole config, which :func:`vitrail.config.load` reads back as it was."""
    return "\n".join(_lines(config, "")) + "\n"


def _lines(config: DataclassInstance, indent: str) -> Iterator[str]:
    said = comments(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for line in textwrap.wrap(said.get(field.name, ""), WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield f"{indent}{field.name}:"
            yield from _lines(value, indent + "  ")
        else:
            plain = to_dict(config)[field.name]
            setting = dump({field.name: plain}, short=isinstance(plain, list))
            yield textwrap.indent(setting.rstrip("\n"), indent)


def comments(config: type[DataclassInstance]) -> dict[str, str]:
    """What the class says of its fields, in its docstring or behind them in the source."""
    names = {field.name for field in dataclasses.fields(config)}
    found = _behind_fields(config)
    current: list[str] = []
    for line in (inspect.getdoc(config) or "").splitlines():
        entry = ENTRY.fullmatch(line.strip())
        listed = entry[1].split(", ") if entry else []
        if entry and names.issuperset(listed):
            current = listed
            found |= dict.fromkeys(current, entry[2])
        elif not line.strip():
            current = []
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in current}
    return {name: text.replace("``", "").replace("None", "null") for name, text in found.items()}


def _behind_fields(config: type[DataclassInstance]) -> dict[str, str]:
    try:
        source = inspect.getsource(config)
    except (OSError, TypeError):
        return {}
    fields = re.finditer(r"^    (\w+): [^\n#]*  # ([^\n]+)$", source, re.MULTILINE)
    return {field[1]: field[2] for field in fields}
