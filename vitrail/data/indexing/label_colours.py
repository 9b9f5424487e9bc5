"""Which colour of a mask is which class, as CVAT, CamVid and others write it beside the masks."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.data.media.decode import BadImage
from vitrail.data.media.text import read_lines
from vitrail.errors import UserError

FILES = ("labelmap.txt", "label_colors.txt", "label_colours.txt", "class_dict.csv")
EXAMPLE = "labelmap.txt, with lines such as cell:255,0,0"


@dataclass(frozen=True)
class LabelColours:
    """Classes in the order of the file, and the colour of each, uint8 (K, 3)."""

    file: Path
    names: tuple[str, ...]
    colours: np.ndarray


def colours_beside(folder: Path) -> LabelColours | None:
    """Those of the first of ``FILES`` in a folder.

    Lines are ``name:r,g,b:parts:actions`` (CVAT), ``r g b name`` (CamVid), or ``name,r,g,b``.

    Raises:
        UserError: a line is none of these, or two classes have one colour or name.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    try:
        lines = [line for line in read_lines(file) if not line.startswith("#")]
    except BadImage as error:
        raise UserError(f"{file} {error}") from None
    if file.suffix == ".csv":
        lines = lines[1:]
    rows = [_row(line) for line in lines]
    if None in rows:
        raise UserError(f"{file}: {lines[rows.index(None)]!r} names no class and colour; write cell:255,0,0")
    known = [row for row in rows if row is not None]
    names, colours = [name for name, _ in known], [colour for _, colour in known]
    for what, values in (("class", names), ("colour", [",".join(map(str, colour)) for colour in colours])):
        if len(set(values)) < len(values):
            ((twice, _),) = Counter(values).most_common(1)
            raise UserError(f"{file} has the {what} {twice!r} twice; each class has one colour")
    return LabelColours(file, tuple(names), np.array(colours, np.uint8).reshape(-1, 3))


def _row(line: str) -> tuple[str, tuple[int, ...]] | None:
    if found := re.match(r"(.+?):\s*(\d+),\s*(\d+),\s*(\d+)\s*(?::|$)", line):
        name, *colour = found.groups()
    elif found := re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)\s+(.+)", line):
        *colour, name = found.groups()
    else:
        try:
            cells = next(csv.reader([line]))
        except csv.Error:  # a cell beyond its limit
            return None
        if len(cells) < 4:
            return None
        name, *colour = (cell.strip() for cell in cells[:4])
    if not name or not all(part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < 256 for part in colour):
        return None
    return name.strip(), tuple(map(int, colour))
