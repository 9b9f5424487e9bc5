"""What stands where in an image: the targets of detection and segmentation, of one image, of a data set, of a batch.

N objects, of an image of H × W pixels. Boxes are left, top, right, bottom; pixel (0, 0) reaches from 0 to 1.
A semantic map holds a class for each pixel, 255 where there is no saying.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import UserError

SPATIAL = ("boxes", "masks", "semantic")
"""The kinds of targets that have a place in the image: objects, objects with their masks, a class for each pixel."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image.

    Attributes:
        boxes_xyxy: float32 (N, 4), in pixels.
        labels: int64 (N,).
        crowd: bool (N,): one box around many; neither learned from nor counted as missed (COCO's ``iscrowd``).
        size: (height, width) of the image that the pixels are those of.
        image_id: what the data set calls the image.
        masks: bool (N, H, W), or None where only boxes are known.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor
    size: tuple[int, int]
    image_id: int = 0
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, keep: Tensor) -> Objects:
        """Those at ``keep``, a mask bool (N,) or places int64."""
        masks = None if self.masks is None else self.masks[keep]
        rows = {name: getattr(self, name)[keep] for name in ("boxes_xyxy", "labels", "crowd")}
        return dataclasses.replace(self, **rows, masks=masks)


@dataclass(frozen=True, eq=False)
class ObjectsBatch:
    """The objects of B images, as one tensor of each kind: ``batch[b]`` and iteration give :class:`Objects`.

    It moves and splits as the other entries of a batch do, and a worker hands few tensors over.

    Attributes:
        boxes_xyxy, labels, crowd: of the M objects of all images, image after image.
        counts: objects in each image.
        image_ids: what the data set calls the images.
        size: of all images, which are the model's input.
        masks: bool (M, H, W), or None.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor
    counts: tuple[int, ...]
    image_ids: tuple[int, ...]
    size: tuple[int, int]
    masks: Tensor | None = None

    @classmethod
    def of(cls, images: Sequence[Objects]) -> ObjectsBatch:
        """The batch of some images of one size, all with masks or all without."""
        masks = [each.masks for each in images if each.masks is not None]
        return cls(
            boxes_xyxy=torch.cat([each.boxes_xyxy for each in images]),
            labels=torch.cat([each.labels for each in images]),
            crowd=torch.cat([each.crowd for each in images]),
            counts=tuple(map(len, images)),
            image_ids=tuple(each.image_id for each in images),
            size=images[0].size,
            masks=torch.cat(masks) if masks else None,
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, image: int) -> Objects:
        image = range(len(self))[image]
        start = sum(self.counts[:image])
        rows = slice(start, start + self.counts[image])
        masks = None if self.masks is None else self.masks[rows]
        parts = self.boxes_xyxy[rows], self.labels[rows], self.crowd[rows]
        return Objects(*parts, self.size, self.image_ids[image], masks)

    def __iter__(self) -> Iterator[Objects]:
        return (self[image] for image in range(len(self)))

    def chunk(self, count: int) -> list[ObjectsBatch]:
        """As :meth:`torch.Tensor.chunk`: at most ``count`` batches of equal numbers of images."""
        step = -(-len(self) // count)
        return [ObjectsBatch.of([*self][start : start + step]) for start in range(0, len(self), step)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ObjectsBatch:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ObjectsBatch:
        """The same in memory that a GPU reads directly."""
        return self._each(Tensor.pin_memory)

    def _each(self, function: Any) -> ObjectsBatch:
        masks = None if self.masks is None else function(self.masks)
        rows = {name: function(getattr(self, name)) for name in ("boxes_xyxy", "labels", "crowd")}
        return dataclasses.replace(self, **rows, masks=masks)


class Masks(Protocol):
    """Where a data set keeps the masks of its objects; they are decoded when an image's turn comes."""

    def read(self, image: int, objects: range, size: tuple[int, int]) -> np.ndarray:
        """bool (n, H, W) of an image's objects.

        Args:
            image: its position in the whole data set.
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

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Objects: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> Annotations: ...
    def __getitem__(self, index: Any) -> Objects | Annotations:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        image, found = self.rows[index], self.objects(index)
        height, width = self.sizes[image].tolist()
        masks = None if self.masks is None else self.masks.read(int(image), found, (height, width))
        rows = slice(found.start, found.stop)
        return Objects(
            boxes_xyxy=torch.from_numpy(self.boxes_xyxy[rows].copy()),
            labels=torch.from_numpy(self.labels[rows].copy()),
            crowd=torch.from_numpy(self.crowd[rows].copy()),
            size=(height, width),
            image_id=int(self.image_ids[image]),
            masks=None if masks is None else torch.from_numpy(np.ascontiguousarray(masks)),
        )

    def objects(self, index: int) -> range:
        """The rows of the objects of the image at ``index``."""
        image = self.rows[index]
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))

    def labels_of(self, index: int) -> np.ndarray:
        """The labels of the image at ``index``, int64 (N,)."""
        found = self.objects(index)
        return self.labels[found.start : found.stop]

    def counts(self, num_classes: int) -> np.ndarray:
        """Objects of each class, int64 (K,)."""
        labels = [np.empty(0, np.int64), *(self.labels_of(index) for index in range(len(self)))]
        return np.bincount(np.concatenate(labels), minlength=num_classes)

    def tobytes(self) -> bytes:
        """What tells these objects from others, masks aside."""
        ranges = [(self.offsets[i], self.offsets[i + 1]) for i in self.rows]
        parts = [column[start:end] for start, end in ranges for column in (self.boxes_xyxy, self.labels, self.crowd)]
        return b"".join(part.tobytes() for part in (*parts, self.rows))

    def without_masks(self) -> Annotations:
        """The boxes alone."""
        return dataclasses.replace(self, masks=None)


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
    """Objects of an image for people: ``2 ant, 1 bee``."""
    counts = Counter(labels)
    return ", ".join(f"{count} {classes[label]}" for label, count in sorted(counts.items())) or "no objects"
