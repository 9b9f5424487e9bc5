"""CIFAR-100 (Krizhevsky, 2009): 60,000 colour photos of 32 × 32, a hundred classes."""

from __future__ import annotations

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.torchvision_data import holds, torchvision_arrays

FOLDER = "cifar-100-python"


def matches(spec: str) -> bool:
    return holds(spec, FOLDER)


def load(config: SourceConfig) -> dict[str, Source]:
    return torchvision_arrays("CIFAR100", config, FOLDER)
