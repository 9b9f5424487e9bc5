"""ImageNet-1k as ILSVRC2012 is handed out: ``imagenet:FOLDER``.

The folder holds the devkit (``ILSVRC2012_devkit_t12``, unpacked or as ``.tar.gz``), the training images in one folder
a synset, and the validation images in such folders too or flat, then labelled by the devkit's ground truth. That file
counts in the devkit's own synset order (``ILSVRC2012_ID``), which is not the order of the classes: classes are the
1,000 synsets sorted by their WordNet number, as every published model has them. Nothing is unpacked or written.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np

from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.listing import Listing, scan
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.data.targets import Labels
from vitrail.errors import UserError

DEVKIT = "ILSVRC2012_devkit_t12"
FOLDERS = {"train": ("train", "ILSVRC2012_img_train"), "val": ("val", "ILSVRC2012_img_val")}


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return (path / DEVKIT).is_dir() or (path / f"{DEVKIT}.tar.gz").is_file()


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where the devkit or all images are missing, or a folder is no synset."""
    wnids, names = _synsets(_devkit_file(config.path, "data/meta.mat"), config.path / DEVKIT)
    order = np.argsort(wnids)
    class_of_id = np.argsort(order)  # position in the devkit → class
    label_of = {wnid: int(class_of_id[i]) for i, wnid in enumerate(wnids)}
    classes = tuple(f"{wnids[i]} {names[i]}" for i in order)
    sources: dict[str, Source] = {}
    for split, candidates in FOLDERS.items():
        folder = next((config.path / name for name in candidates if (config.path / name).is_dir()), None)
        if folder is None:
            continue
        listing = scan(folder, follow_symlinks=config.follow_symlinks)
        if len(listing.folders) == 1:
            targets = _ground_truth(config.path, listing, folder, len(wnids))
            targets = class_of_id[targets - 1]
        else:
            targets = _by_folder(listing, label_of, folder)
        root = os.path.realpath(os.fsencode(folder))
        files = Files(targets=np.empty(0, np.float32), kind="none", classes=(), root=root, paths=listing)
        sources[split] = files.labelled(Labels("class", classes, targets.astype(np.int64)))
    if not sources:
        raise UserError(f"{config.path} holds neither a folder 'train' nor 'val'; unpack the images there")
    return sources


def _synsets(meta: bytes, where: Path) -> tuple[list[str], list[str]]:
    """(WordNet numbers, first names) of the 1,000 leaf synsets in the devkit's order."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = sorted((s for s in synsets if int(s["num_children"]) == 0), key=lambda s: int(s["ILSVRC2012_ID"]))
        found = [str(s["WNID"]) for s in leaves], [str(s["words"]).split(",")[0] for s in leaves]
    except Exception as error:  # of a reader of binary files, which fails in many ways
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{where}'s data/meta.mat is damaged: {cause}; fetch {DEVKIT}.tar.gz again") from None
    if not leaves or len(set(found[0])) < len(leaves):
        raise UserError(f"{where}'s data/meta.mat names no synsets, or one twice; fetch {DEVKIT}.tar.gz again")
    return found


def _devkit_file(root: Path, name: str) -> bytes:
    unpacked, packed = root / DEVKIT / name, root / f"{DEVKIT}.tar.gz"
    try:
        if unpacked.is_file():
            return unpacked.read_bytes()
        with tarfile.open(packed, "r:gz") as archive:
            file = archive.extractfile(f"{DEVKIT}/{name}")
            if file is None:
                raise KeyError("it is no file")
            return file.read()
    except (OSError, KeyError, EOFError, tarfile.TarError) as error:
        raise UserError(f"the devkit's {name} cannot be read in {root}: {error}; fetch {packed.name} again") from None


def _ground_truth(root: Path, listing: Listing, folder: Path, most: int) -> np.ndarray:
    """The devkit's id, from 1, of each file of a flat validation folder (files sorted by name)."""
    text = _devkit_file(root, "data/ILSVRC2012_validation_ground_truth.txt")
    try:
        ids = np.array(text.split(), np.int64)
    except (ValueError, OverflowError):
        ids = np.zeros(1, np.int64)
    if len(ids) and not (ids.min() >= 1 and ids.max() <= most):
        raise UserError(
            f"the devkit's ground truth of the validation images in {root} holds other ids than 1 to {most}; fetch "
            f"{DEVKIT}.tar.gz again"
        )
    numbers = _file_numbers(listing.files, folder)
    if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= len(ids)):
        raise UserError(f"{folder} holds image {numbers.max()}, but the devkit labels 1 to {len(ids)}; remove it")
    return np.asarray(ids[numbers - 1])


def _file_numbers(files: Strings, folder: Path) -> np.ndarray:
    try:
        return np.array([int(os.path.splitext(name)[0].rpartition(b"_")[2]) for name in files], np.int64)
    except ValueError:
        raise UserError(
            f"{folder} holds a file that is not called ILSVRC2012_val_00000001.JPEG or so; remove it"
        ) from None


def _by_folder(listing: Listing, label_of: dict[str, int], folder: Path) -> np.ndarray:
    counts = np.bincount(listing.folder_of, minlength=len(listing.folders))
    labels = np.full(len(listing.folders), -1, np.int64)
    for i, name in enumerate(listing.folders):
        wnid = os.fsdecode(name)
        if counts[i] and wnid not in label_of:
            raise UserError(f"{folder / wnid} is no ILSVRC2012 synset; move it elsewhere")
        labels[i] = label_of.get(wnid, -1)
    return labels[listing.folder_of]
