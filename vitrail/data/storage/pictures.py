"""Columns of pictures: in files of their own, or the images themselves."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import overload

import numpy as np

from vitrail.data.indexing.index import Stamps, Strings, file_stamps
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.read import read_regular
from vitrail.data.transforms.preprocess import to_pixels


@dataclass(frozen=True)
class Themselves:
    """A column without pictures: each image is its own."""

    number: int

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int, /) -> None: ...
    @overload
    def __getitem__(self, index: np.ndarray, /) -> Themselves: ...
    def __getitem__(self, index: int | np.ndarray) -> Themselves | None:
        return Themselves(len(index)) if isinstance(index, np.ndarray) else None

    def tobytes(self) -> bytes:
        """The same for all of this number."""
        return str(self.number).encode()


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """A column: by position the picture uint8 (C, H, W), RGB, read when it is asked for.

    Attributes:
        paths: relative to ``root``.
        rows: the pictures that the column has, in order.
    """

    root: bytes
    paths: Strings
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | PictureFiles:
        """Raises BadImage: the picture cannot be read."""
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        path = self._path(index)
        try:
            return to_pixels(decode(read_regular(path), 3)).numpy()
        except BadImage as error:
            raise BadImage(f"has a true picture, {os.fsdecode(path)}, which {error}") from None

    def tobytes(self) -> bytes:
        return b"\0".join(self.paths[int(row)] for row in self.rows)

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Of the files."""
        return file_stamps(self._path(int(index)) for index in indices)

    def _path(self, index: int) -> bytes:
        return os.path.join(self.root, self.paths[int(self.rows[index])])
