"""The corpus of bad input: a builder for every case that a data toolkit must survive, with what is expected of it.

::

    for case in CASES:
        path = case.build(root)      # an image file, or the folder, table or archive to give as data
"""

from __future__ import annotations

import os
from pathlib import Path

from corpus_case import Case, good_folder
from corpus_data import DATA
from corpus_images import IMAGES

CASES: list[Case] = sorted([*IMAGES, *DATA], key=lambda case: case.number)


def image_cases() -> list[Case]:
    return [case for case in CASES if case.kind == "image"]


def dataset_with(case: Case, root: Path) -> Path:
    """A two-class image folder with train and val splits, in which the case's image is one of the training images."""
    folder = good_folder(root / "dataset")
    case_root = root / "case"
    case_root.mkdir()
    built = os.fsencode(case.build(case_root))
    os.replace(built, os.path.join(os.fsencode(folder / "train" / "cat"), os.path.basename(built)))
    return folder
