"""NumPy archives: ``data.npz``, or a folder of ``train.npz``, ``val.npz`` and ``test.npz``.

Each holds ``images`` (or ``x``), uint8 (N, H, W) or (N, H, W, C), and ``labels`` (or ``y``): int (N,) for classes,
0 and 1 (N, K) for several labels, floats (N,) or (N, K) for numbers, or class names. Class names come from an
array ``classes``, or from ``classes.json`` (a list) next to the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitrail.data.indexing.labels import encode
from vitrail.data.indexing.names import classes_beside
from vitrail.data.source import SPLITS, Source, SourceConfig
from vitrail.data.storage.archives import most_unpacked
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import Raw
from vitrail.errors import UserError
from vitrail.npz import Archive, Header, NpzError

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
        classes=config.classes or named or classes_beside(path if path.is_dir() else path.parent),
        where=lambda split, i: f"{files[split]}: label {i}",
    )
    return {split: source.labelled(encoded[split]) for split, source in sources.items()}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    try:
        with Archive(path, most_unpacked) as file:
            images, labels, classes = (
                next((name for name in names if name in file.headers), None) for names in (IMAGES, LABELS, CLASSES)
            )
            if images is None:
                raise UserError(f"{path} has none of the arrays {', '.join(IMAGES)}; name the pixels one of these")
            _check(path, file.headers[images], file.headers.get(labels or ""), file.headers.get(classes or ""))
            return (
                file.array(images),
                _texts(file.array(labels)) if labels else None,
                tuple(map(str, _texts(file.array(classes)).tolist())) if classes else (),
            )
    except (OSError, NpzError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path} cannot be read: {reason.lower()}; save it again with numpy.savez") from None
    except UnicodeError:
        raise UserError(f"{path} holds names that are no text; save them again") from None


def _check(path: Path, images: Header, labels: Header | None, classes: Header | None) -> None:
    """Raises UserError for arrays of other types and shapes than the source takes, before they are read."""
    if images.dtype != np.uint8 or len(images.shape) not in (3, 4):
        raise UserError(
            f"{path}: images are {images.dtype} of shape {images.shape}; give uint8 (N, H, W) or (N, H, W, C)"
        )
    if labels is not None:
        if labels.dtype.kind not in "biufUS" or len(labels.shape) not in (1, 2):
            raise UserError(
                f"{path}: labels are {labels.dtype} of shape {labels.shape}; give integers, numbers or names, (N,) or "
                "(N, K)"
            )
        if labels.shape[0] != images.shape[0]:
            counts = f"{images.shape[0]:,} images but {labels.shape[0]:,} labels"
            raise UserError(f"{path} holds {counts}; give one label an image")
    if classes is not None and (classes.dtype.kind not in "iuUS" or len(classes.shape) != 1):
        raise UserError(f"{path}: classes are {classes.dtype} of shape {classes.shape}; give names (K,)")


def _texts(values: np.ndarray) -> np.ndarray:
    """The same; bytes as text. Raises UnicodeError for what is no text."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind == "U":
        points = np.ascontiguousarray(values).view(np.uint32)
        if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
            raise UnicodeError("no text")
    return values


def _source(path: Path, images: np.ndarray) -> Source:
    channels = images.shape[3] if images.ndim == 4 else 1
    none = np.empty(0, np.float32)
    return Arrays(images=images, label=path.name, channels=channels, targets=none, kind="none", classes=())
