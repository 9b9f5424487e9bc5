"""torchvision's named data sets that come as arrays, as sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.arrays import Arrays
from vitrail.errors import UserError
from vitrail.files import cache_dir


def holds(spec: str, folder: str) -> bool:
    """Whether a path is the folder that torchvision unpacks a data set to, or the one that holds it."""
    path = Path(spec).expanduser()
    inside = path if path.name == folder else path / folder
    return inside.is_dir() and (not folder.endswith("MNIST") or (inside / "raw").is_dir())


def torchvision_arrays(dataset: str, config: SourceConfig, folder: str) -> dict[str, Source]:
    """The train and test split of ``torchvision.datasets.<dataset>``, read from the folder that ``config`` names.

    Args:
        folder: what torchvision unpacks it to.

    Raises:
        UserError: the data is not there and ``config.download`` is off, or the download failed.
    """
    from torchvision import datasets

    name = dataset.lower()
    root = Path(config.location or config.root or cache_dir() / "data" / name).expanduser()
    root = root.parent if root.name == folder else root
    sources: dict[str, Source] = {}
    for split in ("train", "test"):
        try:
            data = getattr(datasets, dataset)(str(root), train=split == "train", download=config.download)
        except RuntimeError:
            raise UserError(f"{config.spec} is not in {root} (or damaged); fetch it with download=true") from None
        except OSError as error:
            raise UserError(f"{config.spec} could not be fetched to {root}: {error}; try again") from None
        images = np.asarray(data.data)
        sources[split] = Arrays(
            images=images,
            label=f"{name}/{split}",
            channels=images.shape[3] if images.ndim == 4 else 1,
            targets=np.asarray(data.targets, np.int64),
            kind="class",
            classes=tuple(data.classes),
        )
    return sources
