"""The objects of a data set as columns, and what may be wrong with the files that they come from."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast, overload

import numpy as np
import torch
from torch import Tensor

from vitrail.data.indexing.index import Stamps, Strings
from vitrail.data.objects import Objects
from vitrail.errors import UserError


class Masks(Protocol):
    """Where a data set keeps the masks of its objects; they are decoded when an image's turn comes."""

    def read(self, image: int, objects: range, size: tuple[int, int]) -> np.ndarray:
        """bool (n, H, W) of an image's objects.

        Args:
            image: its position in the complete data set.
            objects: their rows among all objects.
            size: (height, width) of the image.

        Raises:
            BadImage: masks of another size, or none that can be read.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotations:
    """The objects of a data set, as columns: ``annotations[i]`` are the :class:`Objects` of image i.

    ``annotations[indices]`` are those of some images, in that order, and share the columns.

    Attributes:
        boxes_xyxy: float32 (M, 4), in pixels of the original images, sorted by image.
        labels, crowd: int64 and bool (M,).
        offsets: int64 (images + 1,): where each image's objects begin.
        sizes: int32 (images, 2): height and width.
        image_ids: int64 (images,).
        category_ids: int64 (K,): the number of each class where the data comes from, for writing it again.
        masks: None where only boxes are known.
        difficult: bool (M,), or None where the data does not mark such objects.
        areas: float32 (M,), as annotated, in pixels; None where they are not.
        outlined: bool (M,), which objects have a mask of their own, while that of others is their box; None: all.
        written_ids: of the images, as JSON, where the data calls them by anything but integers.
        rows: int64: the images that are meant, in order.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    image_ids: np.ndarray
    category_ids: np.ndarray
    rows: np.ndarray
    masks: Masks | None = None
    difficult: np.ndarray | None = None
    areas: np.ndarray | None = None
    outlined: np.ndarray | None = None
    written_ids: Strings | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Objects: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> Annotations: ...
    def __getitem__(self, index: int | np.ndarray) -> Objects | Annotations:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        image, found = self.rows[index], self.objects(index)
        height, width = self.sizes[image].tolist()
        masks = None if self.masks is None else self.masks.read(int(image), found, (height, width))

        def column(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values[found.start : found.stop].copy())

        return Objects(
            boxes_xyxy=column(self.boxes_xyxy),
            labels=column(self.labels),
            crowd=column(self.crowd),
            size=(height, width),
            image_id=int(self.image_ids[image]),
            masks=None if masks is None else torch.from_numpy(np.ascontiguousarray(masks)),
            difficult=None if self.difficult is None else column(self.difficult),
            annotated_areas=None if self.areas is None else column(self.areas),
            outlined=None if masks is None or self.outlined is None else column(self.outlined),
        )

    def objects(self, index: int) -> range:
        """The rows of the objects of the image at ``index``."""
        image = self.rows[index]
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Of the files of the masks, where they are in files."""
        stamps = getattr(self.masks, "stamps", None)
        nothing = np.zeros(len(indices), np.int64)
        return Stamps(nothing, nothing) if stamps is None else cast("Stamps", stamps(self.rows[indices]))

    def labels_of(self, index: int) -> np.ndarray:
        """The labels of the image at ``index``, int64 (N,)."""
        found = self.objects(index)
        return self.labels[found.start : found.stop]

    def counts(self, num_classes: int) -> np.ndarray:
        """Objects of each class, int64 (K,)."""
        labels = [np.empty(0, np.int64), *(self.labels_of(index) for index in range(len(self)))]
        return np.bincount(np.concatenate(labels), minlength=num_classes)

    def tobytes(self) -> bytes:
        """What distinguishes these objects from others, masks and areas aside."""
        ranges = [(self.offsets[i], self.offsets[i + 1]) for i in self.rows]
        parts = [column[start:end] for start, end in ranges for column in (self.boxes_xyxy, self.labels, self.ignored)]
        return b"".join(part.tobytes() for part in (*parts, self.rows))

    @property
    def ignored(self) -> np.ndarray:
        """bool (M,): crowds and difficult objects, which are neither learned from nor counted as missed."""
        return self.crowd if self.difficult is None else self.crowd | self.difficult

    def without_masks(self) -> Annotations:
        """The boxes alone."""
        return dataclasses.replace(self, masks=None, outlined=None)

    def written_id(self, index: int) -> int | str | float:
        """What the data itself calls the image at ``index``."""
        image = int(self.rows[index])
        if self.written_ids is None:
            return int(self.image_ids[image])
        found: int | str | float = json.loads(self.written_ids[image])
        return found


class Flaw(NamedTuple):
    """What is wrong in a file of annotations, and at which of its entries or lines."""

    file: str
    place: int
    text: str

    def __str__(self) -> str:
        return f"{self.file} {self.text}"


class BadAnnotations(UserError):
    """Annotations that cannot be used as they are; ``flaws`` lists them all."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        more = f" (and {len(flaws) - 1:,} more, which `vitrail data check` lists)" if len(flaws) > 1 else ""
        super().__init__(f"{flaws[0]}{more}; correct or remove it")
        self.flaws = tuple(flaws)


def in_words(labels: Sequence[int], classes: Sequence[str]) -> str:
    """Objects of an image in words: ``2 ant, 1 bee``."""
    counts = Counter(labels)
    return ", ".join(f"{count} {classes[label]}" for label, count in sorted(counts.items())) or "no objects"
