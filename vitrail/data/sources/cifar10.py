"""CIFAR-10 (Krizhevsky, 2009): 60,000 colour photos of 32 × 32, ten classes."""

from __future__ import annotations

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.torchvision_data import holds, torchvision_arrays

FOLDER = "cifar-10-batches-py"


def matches(spec: str) -> bool:
    return holds(spec, FOLDER)


def load(config: SourceConfig) -> dict[str, Source]:
    return torchvision_arrays("CIFAR10", config, FOLDER)
