"""Folders of images and of PNG masks: ``images/<split>/`` and ``masks/<split>/``, with ``classes.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.errors import UserError
from vitrail.ops.segmentation_losses import IGNORE

KINDS = ("semantic",)


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; a map holds every class, so nothing is left out.

    Raises:
        UserError: unknown pixels would be read as a class.
    """
    taken: set[str] = set()
    seen: set[int] = set()
    for split, source in splits.items():
        (folder / "masks" / split).mkdir(parents=True)
        for index, name in copies.copy(source, folder / "images" / split, taken):
            pixels = np.asarray(source.targets[index])
            seen.update(np.unique(pixels).tolist())
            Image.fromarray(pixels).save(folder / "masks" / split / f"{Path(name).stem}.png")
        copies.write_text(folder / "classes.json", json.dumps(list(source.classes)))
        if len(source.classes) == 2 and seen == {0, IGNORE}:
            raise UserError(
                f"masks cannot hold these targets: {split} has pixels of {source.classes[0]!r} and unknown ones alone, "
                "which would be read as two classes; write another format"
            )
    return []
