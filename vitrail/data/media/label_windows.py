"""Masks in TIFFs that are too large to be decoded at once: the numbers of a part of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from vitrail.data.media.decode import BadImage, bad
from vitrail.data.media.label_image import VOID, LabelImage, numbers_of
from vitrail.data.media.reading import DEFAULT
from vitrail.data.media.windows import WindowedTiff, is_large
from vitrail.errors import UserError

Read = Callable[[LabelImage], np.ndarray]
_BAND = 1 << 22  # pixels that are read at once of a whole mask


class WindowedLabels:
    """A map of which a part is read when it is asked for, ``labels[10:20, 30:90]``; ``numpy.asarray`` reads all of it.

    Attributes:
        shape: (H, W); parts are uint8.
        num_classes: where it is known, other numbers but 255 are refused.

    Args:
        read: from what is stored to the numbers of classes.

    Raises:
        BadImage: a layout that is not read so, several values a pixel, or no extra.
    """

    def __init__(self, path: str | Path, read: Read, num_classes: int | None = None) -> None:
        self.path, self.read, self.num_classes = path, read, num_classes
        self._tiff = WindowedTiff(path, 1, DEFAULT)
        self.shape: tuple[int, int] = self._tiff.shape[1:]

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """Raises BadImage where the file is damaged, or a number is of no class."""
        rows, columns = (part.indices(side)[:2] for part, side in zip(window, self.shape, strict=True))
        try:
            numbers = numbers_of(self._tiff.stored(*rows, *columns)[..., 0])
        except UserError:
            raise
        except Exception as error:  # as in decode
            raise bad(error) from None
        if self._tiff.tags.white_is_zero:
            numbers = 255 - numbers
        found = self.read(LabelImage(numbers, None, False))
        if self.num_classes is not None and (strange := found[(found >= self.num_classes) & (found != VOID)]).size:
            raise BadImage(f"holds the unknown class {int(strange.min())} of {self.num_classes}")
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        height, width = self.shape
        found = np.empty(self.shape, np.uint8)
        step = max(1, _BAND // width)
        for top in range(0, height, step):
            found[top : top + step] = self[top : top + step, :]
        return found.astype(np.uint8 if dtype is None else dtype, copy=False)

    def __reduce__(self) -> tuple[type[WindowedLabels], tuple[str | Path, Read, int | None]]:
        return WindowedLabels, (self.path, self.read, self.num_classes)


def as_stored(image: LabelImage) -> np.ndarray:
    """The numbers as they are."""
    assert image.numbers is not None
    return image.numbers


def open_labels(path: str | Path, read: Read) -> WindowedLabels | None:
    """A mask in a TIFF that is too large to be decoded at once; None: another file.

    Raises:
        BadImage: as :class:`WindowedLabels`.
    """
    return WindowedLabels(path, read) if is_large(path, DEFAULT) else None
