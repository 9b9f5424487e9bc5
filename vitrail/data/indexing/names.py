"""Class names that lie beside the data, in ``classes.json``."""

from __future__ import annotations

import json
from pathlib import Path

from vitrail.errors import UserError


def classes_beside(folder: Path) -> tuple[str, ...]:
    """The list in ``folder/classes.json``; empty where there is no such file.

    Raises:
        UserError: the file holds anything but a list of distinct names.
    """
    file = folder / "classes.json"
    if not file.is_file():
        return ()
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}; correct or remove it") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{file} holds no list of class names; write it as ["cat", "dog"]')
    if len(set(names)) < len(names):
        raise UserError(f"{file} names a class twice; make the names distinct")
    return tuple(names)
