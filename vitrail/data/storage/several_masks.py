"""Images with several masks each, a file for every object or class, and how those are told from one mask an image."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.data.indexing.index import Stamps, file_stamps
from vitrail.data.indexing.listing import scan
from vitrail.data.indexing.splits import split_called
from vitrail.data.media.decode import BadImage
from vitrail.data.media.label_image import decode_label
from vitrail.data.media.read import read_regular, read_size
from vitrail.data.storage.mask_folders import IMAGES, MASKS, pair_of
from vitrail.data.storage.mask_names import pair
from vitrail.data.storage.scenes import folders_of_splits

ONLY = "object"
_SAY_NOTHING = frozenset((*IMAGES, *MASKS, ONLY, "obj", "instance", "inst", "seg", "png", "layer", "part", "roi"))
_SEPARATORS = re.compile(r"[_\-. ]")
_INDEX = re.compile(r"(^|[_\-. ])\d+$")
_MASK_WORDS = frozenset({"mask", "masks", "seg", "gt"})
_NAME = re.compile(r"[^\W\d_]+([ _\-][^\W\d_]+)*")
_NOISE = 127  # of a JPEG around 0


@dataclass(frozen=True)
class MaskFile:
    """A mask: the class that its name tells, whether that is numbered, and the file."""

    name: str
    numbered: bool
    file: Path


@dataclass(frozen=True)
class MaskedImage:
    """An image with the masks of its objects or classes."""

    file: Path
    masks: tuple[MaskFile, ...]


def several_masks(path: Path) -> dict[str, list[MaskedImage]]:
    """The images of each split, where some have several masks and nothing else explains the files; else nothing.

    They are called ``masks/a_0.png`` or ``masks/a_mask_0.png`` of ``images/a.jpg``, ``masks/a/0.png``,
    ``masks/cat/a.png``, or lie in a folder of ``images/`` and ``masks/`` for each image; names of classes may stand for
    the numbers or before them.
    """
    if not path.is_dir():
        return {}
    found = _of_inner_splits(path) or {
        split: list(_of_folder(folder)) for split, folder in folders_of_splits(path).items()
    }
    found = {split: images for split, images in found.items() if images}
    every = [image for images in found.values() for image in images]
    return found if any(len(each.masks) > 1 for each in every) or are_classes(every) else {}


def are_classes(images: Sequence[MaskedImage]) -> bool:
    """Whether each mask is all of a class: none is numbered, and no image has two of one class."""
    names = {mask.name for image in images for mask in image.masks}
    once = all(max(Counter(mask.name for mask in image.masks).values(), default=0) < 2 for image in images)
    return once and len(names) > 1 and not any(mask.numbered for image in images for mask in image.masks)


def read_mask(file: Path) -> np.ndarray:
    """bool (H, W): the pixels that are not black.

    Raises:
        BadImage: it cannot be read, with its name.
    """
    try:
        image = decode_label(read_regular(file))
    except BadImage as error:
        raise BadImage(f"has a mask, {file}, that {error}") from None
    values = image.numbers
    if values is None:
        assert image.colours is not None
        values = image.colours.max(axis=2)
    return np.asarray(values > (_NOISE if image.lossy else 0))


@dataclass(frozen=True, eq=False)
class ClassMasks:
    """A class for each pixel, out of a mask for each class: 0 where none is, the last class where several are."""

    images: tuple[MaskedImage, ...]
    number: dict[str, int]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | ClassMasks:
        """uint8 (H, W). Raises BadImage where a mask cannot be read, or has another size than the others."""
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        image = self.images[int(self.rows[index])]
        if not image.masks:
            return np.zeros(read_size(image.file), np.uint8)
        found: np.ndarray | None = None
        for each in sorted(image.masks, key=lambda mask: self.number.get(mask.name, 0)):
            mask = read_mask(each.file)
            found = np.zeros(mask.shape, np.uint8) if found is None else found
            if mask.shape != found.shape:
                raise BadImage(f"has masks of different sizes, such as {each.file}")
            found[mask] = self.number[each.name]
        assert found is not None
        return found

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Of the first mask of each image."""
        images = (self.images[row] for row in self.rows[indices].tolist())
        return file_stamps(os.fsencode(image.masks[0].file if image.masks else image.file) for image in images)

    def tobytes(self) -> bytes:
        """What distinguishes these masks from others: their names."""
        images = (self.images[row] for row in self.rows.tolist())
        return b"\0".join(os.fsencode(mask.file.name) for image in images for mask in image.masks)


def _of_inner_splits(path: Path) -> dict[str, list[MaskedImage]]:
    """Of ``images/train`` and ``masks/train``."""
    own = pair_of(path)
    inner = [each for each in sorted(own.images.iterdir()) if each.is_dir()] if own is not None else []
    named = {split: each.name for each in inner if (split := split_called(each.name))}
    if own is None or len(named) < len(inner):
        return {}
    pairs = {split: (own.images / name, own.masks / name) for split, name in named.items()}
    return {split: list(_matched(*pair)) for split, pair in pairs.items() if pair[1].is_dir()}


def _of_folder(folder: Path) -> Iterator[MaskedImage]:
    own = pair_of(folder)
    if own is not None:
        yield from _matched(own.images, own.masks)
        return
    inner = [each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith(".")]
    pairs = [pair for each in inner if (pair := pair_of(each)) is not None]
    if pairs and len(pairs) == len(inner):  # a folder for each image
        for each in pairs:
            images, masks = _listed(each.images), _listed(each.masks)
            if len(images) != 1:
                return
            stem = os.path.splitext(images[0])[0]
            yield MaskedImage(each.images / images[0], _named([(name, stem) for name in masks], each.masks))
    elif not inner:
        yield from _matched(folder, folder)


def _matched(images: Path, masks: Path) -> Iterator[MaskedImage]:
    pictures, files = _listed(images), _listed(masks)
    if images == masks:
        stems = {os.path.splitext(name)[0] for name in pictures}
        files = [name for name in files if _says_mask(name) and _base(name, stems - {os.path.splitext(name)[0]})]
        pictures = [name for name in pictures if name not in set(files)]
    plain = pair([os.fsencode(name) for name in pictures], [os.fsencode(name) for name in files])
    if 2 * sum(mask is not None for mask in plain) > len(plain):
        return
    stems = {os.path.splitext(name)[0] for name in pictures}
    of_image: dict[str, list[tuple[str, str]]] = {}
    for name in files:
        if (base := _base(name, stems)) is not None:
            of_image.setdefault(base, []).append((name, base))
    if 2 * len(of_image) < len(pictures):
        return
    for name in pictures:
        yield MaskedImage(images / name, _named(of_image.get(os.path.splitext(name)[0], []), masks))


def _says_mask(name: str) -> bool:
    return not _MASK_WORDS.isdisjoint(_SEPARATORS.split(os.path.splitext(os.path.basename(name))[0].lower()))


def _base(name: str, stems: set[str]) -> str | None:
    """The image that a mask is of: the one that its folder is called by, or that its name begins with."""
    folder = os.path.dirname(name)
    if folder in stems:
        return folder
    if folder and "/" not in folder and os.path.splitext(os.path.basename(name))[0] in stems:  # of its class
        return os.path.splitext(os.path.basename(name))[0]
    stem = os.path.splitext(name)[0]
    ends = [found.start() for found in _SEPARATORS.finditer(stem) if found.start() > len(folder)]
    return next((stem[:end] for end in reversed(ends) if stem[:end] in stems), None)


def _named(names: Sequence[tuple[str, str]], masks: Path) -> tuple[MaskFile, ...]:
    """The masks of an image, with what their names say beyond that of the image."""
    found = []
    for name, base in names:
        stem = os.path.splitext(name)[0]
        (folder, file), image = os.path.split(stem), os.path.basename(base)
        of_class = bool(folder) and file == image and folder != base
        own = folder if of_class else file if folder == base else file.removeprefix(image)
        rest = _SEPARATORS.sub(" ", own).strip()
        kept = " ".join(word for word in _INDEX.sub("", rest).split() if word.lower() not in _SAY_NOTHING)
        plain = kept if _NAME.fullmatch(kept) else ONLY
        found.append(MaskFile(plain, bool(_INDEX.search(rest)) or plain == ONLY, masks / name))
    return tuple(found)


def _listed(folder: Path) -> list[str]:
    listing = scan(folder)
    return [os.fsdecode(listing[i]) for i in range(len(listing))]
