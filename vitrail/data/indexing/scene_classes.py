"""The classes of data sets whose masks have numbers of their own: ADE20K and Cityscapes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vitrail.data.media.decode import BadImage
from vitrail.data.media.text import read_lines

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""The 19 classes that are measured, in the order of its trainIds."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Their numbers in ``labelIds``."""
ADE20K_NAMES = "objectInfo150.txt"
_ADE20K_CLASSES = 150
_IGNORED = 255


def cityscapes_values() -> np.ndarray:
    """uint8 (256,): the class of each of ``labelIds``; 255 for those that are not measured."""
    values = np.full(256, _IGNORED, np.uint8)
    values[list(CITYSCAPES_IDS)] = np.arange(len(CITYSCAPES_IDS))
    return values


def ade20k_values() -> np.ndarray:
    """uint8 (256,): its numbers count from 1, and 0 is of no class."""
    return np.concatenate(([_IGNORED], np.arange(255))).astype(np.uint8)


def ade20k_classes(folder: Path) -> tuple[str, ...]:
    """The names in ``objectInfo150.txt``, of which the first of several synonyms; numbers without such a file."""
    try:
        lines = read_lines(folder / ADE20K_NAMES)[1:]
    except BadImage:
        lines = []
    rows = [re.split(r"\t|\s{2,}", line) for line in lines]
    names = [row[-1].split(",")[0].strip() for row in rows if row and row[0].isdigit()]
    if len(names) != _ADE20K_CLASSES or len(set(names)) != len(names):
        full = [row[-1].strip() for row in rows if row and row[0].isdigit()]
        names = full if full and len(set(full)) == len(full) else [str(n) for n in range(1, _ADE20K_CLASSES + 1)]
    return tuple(names)
