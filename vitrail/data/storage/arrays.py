"""Sources that hold their images in memory as one array."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from vitrail.data.indexing.index import Stamps
from vitrail.data.source import Source


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Arrays(Source):
    """Images uint8 (N, H, W) or (N, H, W, C), called ``label[i]``."""

    images: np.ndarray
    label: str

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def read(self, index: int) -> np.ndarray:
        return np.asarray(self.images[index])

    def stamps(self, indices: np.ndarray) -> Stamps:
        sums = [zlib.crc32(self.images[index].tobytes()) for index in indices.tolist()]
        return Stamps(np.array(sums, np.int64), np.zeros(len(sums), np.int64))
