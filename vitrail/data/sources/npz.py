"""NumPy archives: ``data.npz``, or a folder of ``train.npz``, ``val.npz`` and ``test.npz``.

Each holds ``images`` (or ``x``), uint8 or uint16 (N, H, W) or (N, H, W, C), and ``labels`` (or ``y``): int (N,) or
(N, 1) for classes, 0 and 1 (N, K) for several labels (or for one class, where each row has one 1), floats (N,) or
(N, K) for numbers, or class names. One archive may hold all splits, as in ``x_train``, ``y_train``, ``x_test`` of Keras
and ``train_images``, ``train_labels`` of MedMNIST. Class names come from an array ``classes``, or from ``classes.json``
(a list) next to the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vitrail import console
from vitrail.data.indexing.labels import encode
from vitrail.data.indexing.names import classes_beside
from vitrail.data.indexing.splits import words
from vitrail.data.indexing.system_files import is_system
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.storage.archives import most_unpacked
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import Raw
from vitrail.errors import UserError
from vitrail.npz import Archive, Header, NpzError

IMAGES, LABELS, CLASSES = ("images", "x", "X"), ("labels", "y", "targets", "label"), ("classes", "class_names")
_IMAGE_WORDS = frozenset(["images", "image", "imgs", "img", "x", "data", "pixels", "pictures", "photos"])
_LABEL_WORDS = frozenset(["labels", "label", "y", "targets", "target"])
_JOINED = {"xtrain": "x", "xval": "x", "xtest": "x", "ytrain": "y", "yval": "y", "ytest": "y"}
_MOST_CHANNELS = 4  # of arrays whose first axis looks like one of channels


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix.lower() == ".npz" or (path.is_dir() and bool(_archives_in(path)))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for missing or mismatching arrays."""
    path = config.path
    files = _archives_in(path) if path.is_dir() else {"train": path}
    contents: dict[str, tuple[Path, str, np.ndarray, np.ndarray | None]] = {}
    named: tuple[str, ...] = ()
    for own_split, file in files.items():
        parts, own_names = _read(file, own_split)
        named = named or own_names
        for split, (images, labels, prefix) in parts.items():
            if split in contents:
                raise UserError(f"{contents[split][0]} and {file} both hold the {split} split; give one of them")
            contents[split] = (file, f"{file.name}{prefix}", images, labels)
    sources = {split: _source(label, images) for split, (_, label, images, _) in contents.items()}
    if not config.labelled:
        return sources
    raw: dict[str, Raw] = {}
    for split, (file, _, _, labels) in contents.items():
        if labels is None and raw:
            console.note(f"{file}: the {split} split is left out, since it has no labels")
            del sources[split]
            continue
        if labels is None:
            wanted = ", ".join(LABELS)
            raise UserError(f"{file} has none of the arrays {wanted}; add one, or use labelled=false")
        raw[split] = labels
    encoded = encode(
        raw,
        kind=config.kind,
        classes=config.known_classes or named or classes_beside(path if path.is_dir() else path.parent),
        where=lambda split, i: f"{contents[split][0]}: label {i}",
    )
    return {split: source.labelled(encoded[split]) for split, source in sources.items()}


def _archives_in(folder: Path) -> dict[str, Path]:
    """The archives of a folder that are named for a split."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.npz")):
        split = split_called(file.stem)
        if split is not None and not is_system(bytes(file.name, "utf-8", "surrogateescape")):
            found.setdefault(split, file)
    return {split: found[split] for split in SPLITS if split in found}


_Part: TypeAlias = "tuple[np.ndarray, np.ndarray | None, str]"
"""Images, labels, and what to add to the archive's name."""


def _read(path: Path, own: str) -> tuple[dict[str, _Part], tuple[str, ...]]:
    """The parts by split, ``own`` where names say none, and the names of classes; headers are checked before."""
    try:
        with Archive(path, most_unpacked) as file:
            headers = file.headers
            found = _by_split(path, headers, own)
            classes = next((name for name in CLASSES if name in headers), None)
            if classes is not None:
                _check_classes(path, headers[classes])
            for images, labels, _ in found.values():
                _check(path, images, headers[images], headers[labels] if labels else None)
            parts = {
                split: (file.array(images), _texts(file.array(labels)) if labels else None, suffix)
                for split, (images, labels, suffix) in found.items()
            }
            return parts, tuple(map(str, _texts(file.array(classes)).tolist())) if classes else ()
    except (OSError, NpzError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path} cannot be read: {reason.lower()}; save it again with numpy.savez") from None
    except UnicodeError:
        raise UserError(f"{path} holds names that are no text; save them again") from None


def _role(name: str) -> str | None:
    """Whether an array is of images or labels, by its name: "images" of ``x_train``, "labels" of ``val_labels``."""
    found = {_JOINED.get(word, word) for word in words(name)}
    if found & _LABEL_WORDS:  # image_labels are labels
        return "labels"
    return "images" if found & _IMAGE_WORDS else None


def _by_split(path: Path, arrays: Mapping[str, Header], own: str) -> dict[str, tuple[str, str | None, str]]:
    """(images, labels, what to add to the archive's name) of each split, by the names of the arrays."""
    of_split: dict[str, dict[str, str]] = {}
    plain = [name for names in (IMAGES, LABELS) for name in names if name in arrays]
    divided = {name: split for name in arrays if (split := split_called(name)) and _role(name)}
    for name, split in divided.items():
        role = str(_role(name))
        if (other := of_split.setdefault(split, {}).setdefault(role, name)) != name:
            raise UserError(f"{path} holds {other} and {name}, both {role} of {split}; keep one of them")
    if plain and not any(roles.get("images") for roles in of_split.values()):
        roles = {"images": [n for n in IMAGES if n in arrays], "labels": [n for n in LABELS if n in arrays]}
        of_split = {own: {role: names[0] for role, names in roles.items() if names}}
    if not any("images" in roles for roles in of_split.values()):
        raise UserError(
            f"{path} has none of the arrays {', '.join(IMAGES)}, nor such of splits (x_train, train_images); "
            "name the pixels one of these"
        )
    return {
        split: (names["images"], names.get("labels"), "" if names["images"] in IMAGES else f"/{split}")
        for split in SPLITS
        if "images" in (names := of_split.get(split, {}))
    }


def _check(path: Path, name: str, images: Header, labels: Header | None) -> None:
    """Raises UserError for arrays of other types and shapes than the source takes."""
    if images.dtype not in (np.uint8, np.uint16) or len(images.shape) not in (3, 4):
        raise UserError(
            f"{path}: {name} are {images.dtype} of shape {images.shape}; give uint8 (N, H, W) or (N, H, W, C)"
        )
    if len(images.shape) == 4 and images.shape[1] <= _MOST_CHANNELS < min(images.shape[2:]):
        raise UserError(
            f"{path}: {name} of shape {images.shape} seem to have their channels first; save "
            f"{name}.transpose(0, 2, 3, 1)"
        )
    if labels is None:
        return
    if labels.dtype.kind not in "biufUS" or len(labels.shape) not in (1, 2):
        raise UserError(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}; give integers, numbers or names, (N,) or "
            "(N, K)"
        )
    if labels.shape[0] != images.shape[0]:
        counts = f"{images.shape[0]:,} images but {labels.shape[0]:,} labels"
        raise UserError(f"{path} holds {counts}; give one label an image")


def _check_classes(path: Path, classes: Header) -> None:
    if classes.dtype.kind not in "iuUS" or len(classes.shape) != 1:
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


def _source(label: str, images: np.ndarray) -> Source:
    channels = images.shape[3] if images.ndim == 4 else 1
    none = np.empty(0, np.float32)
    return Arrays(images=images, label=label, channels=channels, targets=none, kind="none", classes=())
