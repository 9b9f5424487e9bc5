"""Folders of images and of PNG masks: ``images/<split>/`` and ``masks/<split>/``, with ``classes.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data.source import Source
from vitrail.data.storage import copies

KINDS = ("semantic",)


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; a map holds every class, so nothing is left out."""
    taken: set[str] = set()
    for split, source in splits.items():
        (folder / "masks" / split).mkdir(parents=True)
        for index, name in copies.copy(source, folder / "images" / split, taken):
            Image.fromarray(np.asarray(source.targets[index])).save(folder / "masks" / split / f"{Path(name).stem}.png")
        copies.write_text(folder / "classes.json", json.dumps(list(source.classes)))
    return []
