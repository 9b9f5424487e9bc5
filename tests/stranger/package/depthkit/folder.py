"""The source ``depthkit.folder:PATH``: folders ``images`` and ``depths`` with files of the same names.

A depth map is ``.npy`` (floats, in metres) or a 16-bit ``.png`` (in millimetres, as Kinect and NYU Depth store it). The
two folders lie in PATH, or in a folder for each split: ``train``, ``val``, ``test``.
"""

from __future__ import annotations

import dataclasses
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data import BadImage, Source, SourceConfig
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.listing import scan
from vitrail.data.media.read import read_regular
from vitrail.data.source import split_called
from vitrail.data.storage.files import Files
from vitrail.errors import UserError

KIND, NAMES = "depthkit.maps", ("depth",)
IMAGES, DEPTHS = "images", "depths"


@dataclass(frozen=True, eq=False)
class DepthFiles:
    """A column: by position the map float32 (H, W) of an image, read when it is asked for.

    Attributes:
        paths: of the maps without their suffix, relative to ``root``.
        rows: the images that the column has, in order.
    """

    root: Path
    paths: Strings
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | DepthFiles:
        """Raises BadImage: the map is absent or damaged."""
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        stem = os.fsdecode(self.paths[int(self.rows[index])])
        for suffix, read in READERS.items():
            if (path := self.root / f"{stem}{suffix}").is_file():
                return read(path)
        raise BadImage(f"has no depth map {self.root / stem}.npy or .png")

    def tobytes(self) -> bytes:
        return b"\0".join(self.paths[int(row)] for row in self.rows)


def load(config: SourceConfig) -> dict[str, Source]:
    """The splits that are there.

    Raises:
        UserError: there is no such folder, or it has neither images nor splits with images.
    """
    if not config.path.is_dir():
        raise UserError(f"there is no folder {str(config.path)!r}; correct the path")
    folders = {split: each for each in config.path.iterdir() if (split := split_called(each.name))}
    folders = folders or {"train": config.path}
    if not all((folder / IMAGES).is_dir() for folder in folders.values()):
        raise UserError(f"{config.path} has no folder {IMAGES!r}; give a folder with {IMAGES!r} and {DEPTHS!r}")
    return {split: _source(folder, config) for split, folder in folders.items()}


def _source(folder: Path, config: SourceConfig) -> Source:
    images = scan(folder / IMAGES, follow_symlinks=config.follow_symlinks)
    stems = Strings.of(os.path.splitext(images[i])[0] for i in range(len(images)))
    depths = DepthFiles(folder / DEPTHS, stems, np.arange(len(images)))
    root = os.fsencode(folder.absolute() / IMAGES)
    return Files(targets=depths, kind=KIND, classes=NAMES, root=root, paths=images)


def _npy(path: Path) -> np.ndarray:
    try:
        depths = np.load(io.BytesIO(read_regular(path)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadImage(f"has a damaged depth map {path}: {error}") from None
    return _checked(depths, path)


def _png(path: Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(read_regular(path)), formats=["PNG"]) as image:
            if image.mode not in ("I;16", "I"):
                raise BadImage(f"has a depth map {path} of {image.mode} pixels; write 16-bit grey levels")
            depths = np.asarray(image) / np.float32(1000)
    except (ValueError, SyntaxError, OSError) as error:
        raise BadImage(f"has a damaged depth map {path}: {error}") from None
    return _checked(depths, path)


def _checked(depths: np.ndarray, path: Path) -> np.ndarray:
    if depths.ndim != 2 or depths.dtype.kind not in "fiu":
        raise BadImage(f"has a depth map {path} of {depths.dtype} {depths.shape}; write numbers (height, width)")
    return depths.astype(np.float32)


READERS = {".npy": _npy, ".png": _png}
