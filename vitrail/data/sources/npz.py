"""NumPy archives: ``data.npz``, or a folder of ``train.npz``, ``val.npz`` and ``test.npz``.

Each holds ``images`` (or ``x``), uint8 (N, H, W) or (N, H, W, C), and ``labels`` (or ``y``): int (N,) for classes,
0 and 1 (N, K) for several labels, floats (N,) or (N, K) for numbers, or class names. Class names come from an
array ``classes``, or from ``classes.json`` (a list) next to the file.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from vitrail.data.indexing.labels import encode
from vitrail.data.indexing.names import classes_beside
from vitrail.data.source import SPLITS, Source, SourceConfig
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import Raw
from vitrail.errors import UserError

IMAGES, LABELS, CLASSES = ("images", "x", "X"), ("labels", "y", "targets", "label"), ("classes", "class_names")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix == ".npz" or (path / "train.npz").is_file() or (path / "test.npz").is_file()


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for missing or mismatching arrays."""
    path = config.path
    files = {"train": path}
    if path.is_dir():
        files = {split: path / f"{split}.npz" for split in SPLITS if (path / f"{split}.npz").is_file()}
    contents = {split: _read(file) for split, file in files.items()}
    sources = {split: _source(files[split], images) for split, (images, _, _) in contents.items()}
    if not config.labelled:
        return sources
    named = next((names for _, _, names in contents.values() if names), ())
    raw: dict[str, Raw] = {}
    for split, (_, labels, _) in contents.items():
        if labels is None:
            wanted = ", ".join(LABELS)
            raise UserError(f"{files[split]} has none of the arrays {wanted}; add one, or use labelled=false")
        raw[split] = labels
    encoded = encode(
        raw,
        kind=config.kind,
        classes=config.known_classes or named or classes_beside(path if path.is_dir() else path.parent),
        where=lambda split, i: f"{files[split]}: label {i}",
    )
    return {split: source.labelled(encoded[split]) for split, source in sources.items()}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is no .npz archive; save it with numpy.savez")
            images, labels, classes = (
                next((file[name] for name in names if name in file), None) for names in (IMAGES, LABELS, CLASSES)
            )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path} cannot be read: {reason.splitlines()[0].lower()}") from None
    if images is None:
        raise UserError(f"{path} has none of the arrays {', '.join(IMAGES)}; name the pixels one of these")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UserError(
            f"{path}: images are {images.dtype} of shape {images.shape}; give uint8 (N, H, W) or (N, H, W, C)"
        )
    if labels is not None and len(labels) != len(images):
        raise UserError(f"{path} holds {len(images):,} images but {len(labels):,} labels; give one label an image")
    return images, labels, tuple(map(str, classes)) if classes is not None else ()


def _source(path: Path, images: np.ndarray) -> Source:
    channels = images.shape[3] if images.ndim == 4 else 1
    none = np.empty(0, np.float32)
    return Arrays(images=images, label=path.name, channels=channels, targets=none, kind="none", classes=())
