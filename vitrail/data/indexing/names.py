"""Class names that lie next to the data, in ``classes.json``."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitrail.data.indexing.spelling import alike
from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import read_regular
from vitrail.errors import UserError

_MARKED = re.compile(r"^(?P<name>.+?) \((?P<mark>[^()]+)\)$")
_NUMBERED = re.compile(r"^(?P<mark>n\d{8}) (?P<name>.+)$")


class Classes(tuple[str, ...]):
    """Class names, with the other names that each class has.

    Attributes:
        synonyms: as many as classes, or none; of each class its other names, such as its WordNet number.
    """

    synonyms: tuple[tuple[str, ...], ...]

    def __new__(cls, names: Iterable[str] = (), synonyms: Iterable[Sequence[str]] = ()) -> Classes:
        made = super().__new__(cls, names)
        made.synonyms = tuple(tuple(each) for each in synonyms)
        return made

    def __reduce__(self) -> tuple[type[Classes], tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
        return Classes, (tuple(self), self.synonyms)


def synonyms_of(classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The other names of each class; () where none are known."""
    return classes.synonyms if isinstance(classes, Classes) else ()


class ClassFinder:
    """Classes by any name that is theirs alone: their own, a synonym, a WordNet number, or one of several in the name.

    Names such as ``crane (n02012849)``, ``n02012849 crane`` and ``tench, Tinca tinca`` hold several.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.own = {name: name for name in classes}
        self.others: dict[str, set[str]] = {}
        synonyms = synonyms_of(classes)
        for number, name in enumerate(classes):
            for other in (*_names_in(name), *(synonyms[number] if synonyms else ())):
                for written in {other, _plain(other)}:
                    self.others.setdefault(written, set()).add(name)
            self.others.setdefault(_plain(name), set()).add(name)

    def matching(self, name: str) -> list[str]:
        """The classes that have this name, sorted; more than one share it."""
        if name in self.own:
            return [name]
        return sorted(self.others.get(name) or self.others.get(_plain(name)) or ())

    def find(self, name: str) -> str:
        """The class, or the name itself where none or more than one has it."""
        found = self.matching(name)
        return found[0] if len(found) == 1 else name


def _names_in(name: str) -> list[str]:
    """The parts of a name that are names by themselves."""
    for pattern in (_MARKED, _NUMBERED):
        if found := pattern.match(name):
            return [found["mark"], found["name"], *_names_in(found["name"])]
    return [part for each in name.split(",") if (part := each.strip())] if "," in name else []


def _plain(name: str) -> str:
    """Without what differs between libraries: case, the encoding of accents, and underscores in place of spaces."""
    return alike(name.replace("_", " "))


def classes_beside(folder: Path) -> Classes:
    """The list in ``folder/classes.json``; empty where there is no such file.

    Entries are names, or ``{"wnid": "n02012849", "name": "crane"}`` as ImageNet's are written: there, classes of one
    name are distinguished by their wnid.

    Raises:
        UserError: the file holds anything but a list of distinct names.
    """
    file = folder / "classes.json"
    if not file.is_file():
        return Classes()
    try:
        entries = json.loads(read_regular(file, most=ANNOTATION_BYTES))  # with or without a byte-order mark
    except BadImage as error:
        raise UserError(f"{file} {error}; correct or remove it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}; correct or remove it") from None
    names = _names(entries)
    if names is None:
        raise UserError(f'{file} holds no list of class names; write it as ["cat", "dog"]')
    if len(set(names)) < len(names):
        raise UserError(f"{file} names a class twice; make the names distinct")
    wnids = [(entry["wnid"],) for entry in entries if isinstance(entry, dict)]
    return Classes(names, wnids)


def told_apart(names: Sequence[str], marks: Iterable[object]) -> tuple[str, ...]:
    """The names, each with its mark behind it where others are equal."""
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({mark})" for name, mark in zip(names, marks, strict=True))


def _names(entries: Any) -> tuple[str, ...] | None:
    if not isinstance(entries, list):
        return None
    if all(isinstance(entry, str) for entry in entries):
        return tuple(entries)
    if not all(
        isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("wnid", "name"))
        for entry in entries
    ):
        return None
    names = [entry["name"] for entry in entries]
    return told_apart(names, [entry["wnid"] for entry in entries])
