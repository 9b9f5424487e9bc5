"""scikit-learn's two embedded photographs (``load_sample_images``, 427 × 640, CC BY 2.0): pictures without a download.

China's Summer Palace is for training, the flower is for testing. They have no labels: they are their own targets, as
``kind=image`` reads them, or images without any.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from vitrail.data.indexing.index import Strings
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.errors import UserError

SPLITS = {"train": "china.jpg", "test": "flower.jpg"}


def matches(spec: str) -> bool:
    return False  # by name only


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where labels are asked for."""
    if config.labelled:
        raise UserError("sample_photos have no labels; learn to restore them with --task super_resolution")
    root = os.fsencode(_folder())
    none = np.empty(0, np.float32)
    return {
        split: Files(targets=none, kind="none", classes=(), root=root, paths=Strings.of([name.encode()]), channels=3)
        for split, name in SPLITS.items()
    }


def _folder() -> Path:
    """Where ``load_sample_images`` reads them; importing scikit-learn takes seconds."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "datasets", "images")
