"""From what a user writes, ``photos/`` or ``csv:labels.txt``, to the source that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vitrail import console, registry
from vitrail.data import layouts
from vitrail.data.indexing.system_files import is_system
from vitrail.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from vitrail.data.source import SourceModule

FOLDER = "folder"
_DEEPEST = 4  # folders around the data


def parse_spec(spec: str) -> tuple[str | None, str]:
    """``"csv:x.txt"`` → ("csv", "x.txt"), ``"digits"`` → ("digits", ""), ``"photos"`` → (None, "photos")."""
    name, colon, location = spec.partition(":")
    if name in registry.names("data.sources"):
        return name, location
    if colon and "." in name and all(part.isidentifier() for part in name.split(".")):
        return name, location  # a third party's module
    return None, spec


def find_source(spec: str, labelled: bool = True, kind: str = "auto") -> tuple[str, SourceModule, str]:
    """The source's name, its module, and the specification to read, which leads into folders that merely wrap the data.

    Args:
        kind: of the targets that are wanted. A source with a ``KIND`` is only taken where that is wanted, and then
            before others.

    Raises:
        UserError: nothing is there, no source reads it, or two do.
    """
    name, location = parse_spec(spec)
    if name is not None:
        return name, _load(name), spec
    claims = _claims(location, kind)
    if claims == [FOLDER]:  # which passes through wrapping folders itself
        inner, wrapped = location, Path(location).expanduser()
        for _ in range(_DEEPEST):
            if (folder := _only_folder(wrapped)) is None:
                break
            wrapped = folder
            if (others := _claims(str(wrapped), kind)) != [FOLDER]:
                claims, inner = others, str(wrapped)
                console.note(f"{spec}: the data lies in {inner}")
                break
        location = inner
    if len(claims) > 1:
        raise UserError(f"{spec!r} could be {' or '.join(claims)}; write {claims[0]}:{location} to choose")
    if claims and claims[0] in (FOLDER, "zip") and labelled and kind in ("auto", "class"):
        layouts.refuse_incomplete(spec, Path(location).expanduser())
    if claims:
        return claims[0], _load(claims[0]), location
    path = Path(location).expanduser()
    if path.exists():
        raise UserError(
            f"{spec!r} is no data that Vitrail reads; give a folder, .csv, .tsv, .npz, .tar, .zip, .json or .yaml, "
            "or the folder that holds it and its images"
        )
    nearby = [str(path.with_name(each.name)) for each in path.parent.iterdir()] if path.parent.is_dir() else []
    known = registry.names("data.sources")
    raise UserError(f"there is no file, folder or data source {spec!r}; {did_you_mean(spec, [*known, *nearby])}")


def of_one_kind(module: SourceModule) -> str | None:
    """The only kind of target that a source is for, where it says so."""
    return getattr(module, "KIND", None)


def _claims(location: str, kind: str) -> list[str]:
    """The sources that read a path; ``folder`` only where no other does."""
    modules = {name: _load(name) for name in registry.names("data.sources")}
    wanted = [name for name, module in modules.items() if of_one_kind(module) in (None, kind)]
    found = [name for name in wanted if modules[name].matches(location)]
    found = [name for name in found if of_one_kind(modules[name]) == kind] or found
    if len(found) > 1 and FOLDER in found:
        found.remove(FOLDER)  # any folder looks like an image folder
    return found


def _only_folder(path: Path) -> Path | None:
    """The folder in a folder that holds nothing else but files, such as a licence."""
    try:
        names = [
            each for each in os.scandir(path) if not (each.name.startswith(".") or is_system(os.fsencode(each.name)))
        ]
    except OSError:
        return None
    folders = [each for each in names if each.is_dir()]
    return Path(folders[0].path) if len(folders) == 1 else None


def _load(name: str) -> SourceModule:
    return cast("SourceModule", registry.load("data.sources", name))
