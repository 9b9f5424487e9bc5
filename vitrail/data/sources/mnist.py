"""MNIST (LeCun et al., 1998): 70,000 handwritten digits of 28 × 28."""

from __future__ import annotations

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.torchvision_data import holds, torchvision_arrays

FOLDER = "MNIST"


def matches(spec: str) -> bool:
    return holds(spec, FOLDER)


def load(config: SourceConfig) -> dict[str, Source]:
    return torchvision_arrays("MNIST", config, FOLDER)
