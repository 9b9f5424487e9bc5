"""What COCO's annotation files have in common: JSON of entries in sections, with images near them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeGuard

from vitrail.data.indexing.splits import is_split_word
from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import read_regular
from vitrail.data.source import SPLITS, SourceConfig, split_called
from vitrail.errors import UserError


def read_sections(file: Path, sections: Iterable[str], wanted: str) -> dict[str, Any]:
    """The content of a file whose ``sections`` are lists of mappings.

    Args:
        wanted: what such files are, for an error.

    Raises:
        UserError: it cannot be read, is no JSON, or lacks a section.
    """
    try:
        text = read_regular(file, most=limits.ANNOTATION_BYTES)
        if text.count(b"[") + text.count(b"{") > limits.CONTAINERS.value:
            raise BadImage(f"holds more lists and mappings than {limits.CONTAINERS}")
        content = json.loads(text)
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {str(error).splitlines()[0]}; write it again") from None
    for key in sections:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"{file} has no list {key!r}, as {wanted} have; give such a file")
    assert isinstance(content, dict)
    return content


def is_id(value: object) -> TypeGuard[int]:
    """Is this an integer that a column of ids holds?"""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def path_fault(name: object) -> str | None:
    """Why this cannot be the name of a file, if so."""
    if not isinstance(name, str) or not name or "\0" in name:
        return f"that names no file: {name!r}"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return f"that no file can have: {name!r}"
    return None


def annotation_files(path: Path, search: Callable[[Path], Iterable[Path]], example: str) -> dict[str, Path]:
    """The file of each split, by a word of its name or its folder's name; a file given is of train unless named.

    Args:
        search: the annotation files of a folder.
        example: the name of such a file, for an error.

    Raises:
        UserError: no file in the folder is named for a split, or two are for the same one.
    """
    if not path.is_dir():
        return {split_of(path) or "train": path}
    files: dict[str, Path] = {}
    for file in search(path):
        split = split_of(file)
        if split is not None and files.setdefault(split, file) != file:
            raise UserError(f"{path} holds {files[split].name} and {file.name}, both for {split}; give one of them")
    if not files:
        raise UserError(f"{path} holds no annotations named for a split, such as {example}; give the file")
    return {split: files[split] for split in SPLITS if split in files}


def split_of(file: Path) -> str | None:
    """The split that a file is named for."""
    return split_called(file.stem) or is_split_word(file.parent.name)


def image_root(file: Path, split: str, first: bytes | None, config: SourceConfig) -> Path:
    """The folder that holds the first image; where none does, the first place that was looked at."""
    if config.root:
        return Path(config.root).expanduser()
    near = [file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images"]
    of_split = [
        folder
        for place in near
        if place.is_dir()
        for folder in sorted(place.iterdir())
        if folder.is_dir() and split_called(folder.name) == split
    ]
    name = os.fsdecode(first or b"")
    return next((folder for folder in (*near, *of_split) if os.path.isfile(folder / name)), near[0])
