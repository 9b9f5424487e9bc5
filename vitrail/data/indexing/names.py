"""Class names that lie next to the data, in ``classes.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import read_regular
from vitrail.errors import UserError


def classes_beside(folder: Path) -> tuple[str, ...]:
    """The list in ``folder/classes.json``; empty where there is no such file.

    Entries are names, or ``{"wnid": "n02012849", "name": "crane"}`` as ImageNet's are written: there, classes of one
    name are distinguished by their wnid.

    Raises:
        UserError: the file holds anything but a list of distinct names.
    """
    file = folder / "classes.json"
    if not file.is_file():
        return ()
    try:
        entries = json.loads(read_regular(file, most=ANNOTATION_BYTES))
    except BadImage as error:
        raise UserError(f"{file} {error}; correct or remove it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}; correct or remove it") from None
    names = _names(entries)
    if names is None:
        raise UserError(f'{file} holds no list of class names; write it as ["cat", "dog"]')
    if len(set(names)) < len(names):
        raise UserError(f"{file} names a class twice; make the names distinct")
    return names


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
