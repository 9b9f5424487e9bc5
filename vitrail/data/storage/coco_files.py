"""What COCO's annotation files have in common: where they lie, how images are numbered, and where these are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vitrail.data.indexing.splits import is_split_word
from vitrail.data.source import SPLITS, SourceConfig, split_called
from vitrail.data.storage.locating import NO_PICTURES, locate
from vitrail.errors import UserError

Id = int | str
"""A number, or where the file has none, a text."""


def own_id(value: object) -> Id | None:
    """An id as it is compared: whole numbers are the same however they are written; None for what is no id."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch("-?[0-9]{1,18}", text) and str(int(text)) == text:
        return int(text)
    return text or None


def numbered(ids: Sequence[Id]) -> list[int]:
    """The ids as numbers: texts get those that follow the highest."""
    highest = max((number for number in ids if isinstance(number, int)), default=0)
    found, given = [], 0
    for each in ids:
        given += isinstance(each, str)
        found.append(highest + given if isinstance(each, str) else each)
    return found


def written(values: Sequence[object]) -> list[bytes] | None:
    """The ids as the file writes them, in JSON; None where all are integers."""
    return None if all(type(value) is int for value in values) else [json.dumps(value).encode() for value in values]


def flag(value: object) -> bool:
    """What is said by 1, true or "1"; and not by 0, false, null, "0" or "false"."""
    return value.strip().lower() not in ("", "0", "0.0", "false", "no") if isinstance(value, str) else bool(value)


def whole(value: object) -> int | None:
    """A number of pixels, as 48, 48.0 or "48"; None for anything else."""
    number = own_id(value)
    return number if isinstance(number, int) and number > 0 else None


def annotation_files(path: Path, search: Callable[[Path], Iterable[Path]], example: str) -> dict[str, Path]:
    """The file of each split, by a word of its name or its folder's name; a single one is of train unless named.

    Args:
        search: the annotation files of a folder.
        example: the name of such a file, for an error.

    Raises:
        UserError: none of several files in the folder is named for a split, or two are for the same one.
    """
    if not path.is_dir():
        return {split_of(path) or "train": path}
    files: dict[str, Path] = {}
    found = list(search(path))
    for file in found:
        split = split_of(file) or ("train" if len(found) == 1 else None)
        if split is not None and files.setdefault(split, file) != file:
            raise UserError(f"{path} holds {files[split].name} and {file.name}, both for {split}; give one of them")
    if not files:
        raise UserError(f"{path} holds no annotations named for a split, such as {example}; give the file")
    return {split: files[split] for split in SPLITS if split in files}


def split_of(file: Path) -> str | None:
    """The split that a file is named for."""
    return split_called(file.stem) or is_split_word(file.parent.name)


def locate_images(file: Path, split: str, names: Sequence[str], config: SourceConfig) -> tuple[Path, list[bytes]]:
    """The folder and paths, as of :func:`locate`, of the images that a file names, which lie next to it, in
    ``images/``, in the folder of the split, or anywhere below."""
    if config.root:
        root = Path(config.root).expanduser()
        return locate(names, [root], root, split)
    home = file.parent.parent if file.parent.name.lower() in ANNOTATION_FOLDERS else file.parent
    near = [file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images"]
    of_split = [
        folder
        for place in near
        if place.is_dir()
        for folder in sorted(place.iterdir())
        if folder.is_dir() and split_called(folder.name) == split and not NO_PICTURES.search(f"{folder.name}/")
    ]
    return locate(names, [*near, *of_split], home, split)


ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "ann", "coco")
