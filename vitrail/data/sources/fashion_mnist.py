"""Fashion-MNIST (Xiao et al., 2017): 70,000 grey pictures of clothes, 28 × 28, ten classes."""

from __future__ import annotations

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.torchvision_data import holds, torchvision_arrays

FOLDER = "FashionMNIST"


def matches(spec: str) -> bool:
    return holds(spec, FOLDER)


def load(config: SourceConfig) -> dict[str, Source]:
    return torchvision_arrays("FashionMNIST", config, FOLDER)
