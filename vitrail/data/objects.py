"""The objects of one image and of a batch of images: boxes, labels and, where they are known, masks.

N objects, of an image of H × W pixels. Boxes are left, top, right, bottom; pixel (0, 0) reaches from 0 to 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from vitrail.ops import boxes

COLUMNS = ("boxes_xyxy", "labels", "crowd", "masks", "difficult", "annotated_areas", "outlined")
"""Fields with a row an object; the last four may be None."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image.

    Attributes:
        boxes_xyxy: float32 (N, 4), in pixels.
        labels: int64 (N,).
        crowd: bool (N,): one box around many, within which any number may be found (COCO's ``iscrowd``).
        size: (height, width) of the image that the pixels are those of.
        image_id: what the data set calls the image.
        masks: bool (N, H, W), or None where only boxes are known.
        difficult: bool (N,): single objects that need not be found (Pascal VOC's ``difficult``); None: there are none.
        annotated_areas: float32 (N,), in pixels (COCO's ``area``), or None where the data set has none.
        outlined: bool (N,), whose masks are known; those of others are their boxes, of which no mask is learned. None:
            all.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor
    size: tuple[int, int]
    image_id: int = 0
    masks: Tensor | None = None
    difficult: Tensor | None = None
    annotated_areas: Tensor | None = None
    outlined: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ignored(self) -> Tensor:
        """bool (N,): crowds and difficult objects, which are neither learned from nor counted as missed."""
        return self.crowd if self.difficult is None else self.crowd | self.difficult

    @property
    def areas(self) -> Tensor:
        """float32 (N,), in pixels: as annotated, else of the masks, else of the boxes."""
        if self.annotated_areas is not None:
            return self.annotated_areas
        return boxes.area(self.boxes_xyxy) if self.masks is None else self.masks.flatten(1).sum(dim=1).float()

    def take(self, keep: Tensor) -> Objects:
        """Those at ``keep``, a mask bool (N,) or places int64."""
        return _each(self, lambda column: column[keep])

    def moved(self, boxes_xyxy: Tensor, masks: Tensor | None, size: tuple[int, int]) -> Objects:
        """The same objects in other pixels; annotated areas change as those of the boxes do."""
        areas = self.annotated_areas
        if areas is not None:
            before = boxes.area(self.boxes_xyxy)
            areas = torch.where(before > 0, areas * boxes.area(boxes_xyxy) / before, 0)
        return dataclasses.replace(self, boxes_xyxy=boxes_xyxy, masks=masks, size=size, annotated_areas=areas)


@dataclass(frozen=True, eq=False)
class ObjectsBatch:
    """The objects of B images, as one tensor of each kind: ``batch[b]`` and iteration give :class:`Objects`.

    It moves and splits as the other entries of a batch do, and a worker hands few tensors over.

    Attributes:
        boxes_xyxy, labels, crowd: of the M objects of all images, image after image.
        counts: objects in each image.
        image_ids: what the data set calls the images.
        size: of all images, which are the model's input.
        masks: bool (M, H, W), or None; ``difficult``, ``annotated_areas`` and ``outlined`` (M,) likewise.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    crowd: Tensor
    counts: tuple[int, ...]
    image_ids: tuple[int, ...]
    size: tuple[int, int]
    masks: Tensor | None = None
    difficult: Tensor | None = None
    annotated_areas: Tensor | None = None
    outlined: Tensor | None = None

    @classmethod
    def of(cls, images: Sequence[Objects]) -> ObjectsBatch:
        """The batch of some images of one size, all with a column or all without."""
        columns = {name: [each for each in (getattr(i, name) for i in images) if each is not None] for name in COLUMNS}
        joined = {name: torch.cat(column) for name, column in columns.items() if column}
        ids = tuple(each.image_id for each in images)
        return cls(**joined, counts=tuple(map(len, images)), image_ids=ids, size=images[0].size)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, image: int) -> Objects:
        image = range(len(self))[image]
        start = sum(self.counts[:image])
        rows = slice(start, start + self.counts[image])
        own = {name: column[rows] for name, column in _columns(self).items()}
        return Objects(**own, size=self.size, image_id=self.image_ids[image])

    def __iter__(self) -> Iterator[Objects]:
        return (self[image] for image in range(len(self)))

    def chunk(self, count: int) -> list[ObjectsBatch]:
        """As :meth:`torch.Tensor.chunk`: at most ``count`` batches of equal numbers of images."""
        step = -(-len(self) // count)
        return [ObjectsBatch.of([*self][start : start + step]) for start in range(0, len(self), step)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ObjectsBatch:
        """The same on a device."""
        return _each(self, lambda column: column.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ObjectsBatch:
        """The same in memory that a GPU reads directly."""
        return _each(self, Tensor.pin_memory)


T = TypeVar("T", Objects, ObjectsBatch)


def _columns(objects: Objects | ObjectsBatch) -> dict[str, Any]:
    """Those that are there, by name."""
    columns = {name: getattr(objects, name) for name in COLUMNS}
    return {name: column for name, column in columns.items() if column is not None}


def _each(objects: T, function: Callable[[Tensor], Tensor]) -> T:
    """The same with each column passed through a function."""
    changed: dict[str, Any] = {name: function(column) for name, column in _columns(objects).items()}
    return dataclasses.replace(objects, **changed)
