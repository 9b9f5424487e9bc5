"""The files of a data set that is being written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.console import track
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.formats import SUFFIXES, suffix_of
from vitrail.data.media.limits import Broken
from vitrail.data.media.samples import storable
from vitrail.data.source import Source
from vitrail.errors import UserError


def write_text(path: Path, text: str) -> None:
    """A file in a folder that is complete, and on disk, only when all of it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy(source: Source, folder: Path, taken: set[str]) -> Iterator[tuple[int, str]]:
    """Write each image into ``folder``, and give its position and its file's name when it is there.

    Files are copied as they are, under their own names where those are free; arrays become PNG.

    Args:
        taken: stems that are given away already; it grows.

    Raises:
        UserError: an image that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in track(range(len(source)), f"writing {folder.name}"):
        try:
            content = source.read(index)
            name = _free(source.name(index), taken) + _suffix(source.name(index), content)
            if isinstance(content, np.ndarray):
                _save(content, source.channels or 3, folder / name)
            else:
                (folder / name).write_bytes(content)
        except BadImage as error:
            raise error.named(source.name(index)) from None
        yield index, name


def _suffix(name: str, content: bytes | np.ndarray) -> str:
    """That of the file, else of its format, as of a row of a table that holds the bytes."""
    own = os.path.splitext(name)[1].lower()
    if own in SUFFIXES:
        return own
    try:
        return ".png" if isinstance(content, np.ndarray) else suffix_of(content)
    except Broken as error:
        raise BadImage(str(error)) from None


def _save(pixels: np.ndarray, channels: int, path: Path) -> None:
    image = decode(pixels, channels)
    if not isinstance(image, Image.Image):
        raise UserError(f"{path.name} has {len(image)} channels; PNG holds 1, 3 or 4")
    storable(image).save(path)


def _free(name: str, taken: set[str]) -> str:
    """``a/b.jpg`` → ``b``, or ``b-2`` where that is taken; ``digits[7]`` → ``digits-7``."""
    base = os.path.basename(name)
    stem = os.path.splitext(base)[0] if base.lower().endswith(SUFFIXES) else base
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "image"
    number, free = 1, stem
    while free.lower() in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free.lower())
    return free
