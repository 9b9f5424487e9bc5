"""The language of a report. Texts are written in English where they are used; a JSON file has those of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["en", "zh"]
TAGS: dict[Language, str] = {"en": "en", "zh": "zh-CN"}
_current: ContextVar[Language] = ContextVar("language", default="en")


@contextmanager
def written_in(language: Language) -> Iterator[None]:
    """While it lasts, :func:`say` speaks this language."""
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def tag() -> str:
    """The current language as HTML names it."""
    return TAGS[_current.get()]


def say(text: str, **values: object) -> str:
    """The text in the current language, or as it is where there is no translation; ``{name}`` becomes a value."""
    said = _table(_current.get()).get(text, text)
    return said.format(**values) if values else said


@cache
def _table(language: Language) -> dict[str, str]:
    """Texts by the English ones."""
    if language == "en":
        return {}
    table: dict[str, str] = json.loads(files("vitrail.report").joinpath(f"{language}.json").read_text(encoding="utf-8"))
    return table
