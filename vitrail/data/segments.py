"""The segments of images, which share out their pixels: panoptic segmentation (Kirillov et al. 2019).

n segments of an image of H × W pixels, M segments of a data set or batch. A segment is an object of a class of things,
or all that is of a class of stuff, such as sky.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.data.drawing import draw_objects
from vitrail.ops import boxes

VOID = 0
"""The number of pixels of no segment."""


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of one image.

    Attributes:
        numbers: int32 (H, W): 0 where a pixel is of none, else from 1 on which segment it is of.
        labels: int64 (n,).
        crowd: bool (n,): a segment of several objects; neither learned from nor counted as missed.
        image_id: what the data set calls the image.
        things: bool (n,), which are of classes of things; None: all, or it does not matter.
    """

    numbers: Tensor
    labels: Tensor
    crowd: Tensor
    image_id: int = 0
    things: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.numbers.shape[0], self.numbers.shape[1]

    @property
    def areas(self) -> Tensor:
        """Pixels of each segment, int64 (n,)."""
        return torch.bincount(self.numbers.flatten(), minlength=len(self) + 1)[1:]

    def masks(self) -> Tensor:
        """bool (n, H, W)."""
        numbers = torch.arange(1, len(self) + 1, dtype=self.numbers.dtype, device=self.numbers.device)
        return self.numbers == numbers[:, None, None]

    def visible(self) -> Segments:
        """Those with a pixel, numbered anew."""
        keep = self.areas > 0
        if keep.all():
            return self
        new = torch.cat((keep.new_zeros(1), keep)).cumsum(0).to(self.numbers.dtype)
        numbers = torch.where(self.numbers == VOID, VOID, new[self.numbers.long()])
        things = None if self.things is None else self.things[keep]
        return Segments(numbers, self.labels[keep], self.crowd[keep], self.image_id, things)

    def is_thing(self) -> Tensor:
        """``things``, bool (n,), all where it is None."""
        return torch.ones_like(self.crowd) if self.things is None else self.things

    def with_stuff_merged(self) -> Segments:
        """One segment for each class of stuff, as panoptic segmentation has it; crowds stay as they are."""
        first: dict[int, int] = {}
        new = torch.arange(len(self) + 1, dtype=self.numbers.dtype)
        for place in (~self.is_thing() & ~self.crowd).nonzero().flatten().tolist():
            new[place + 1] = first.setdefault(int(self.labels[place]), place + 1)
        return dataclasses.replace(self, numbers=new[self.numbers.long()]).visible()


@dataclass(frozen=True, eq=False)
class SegmentsBatch:
    """The segments of B images as one tensor of each kind: ``batch[b]`` and iteration give :class:`Segments`.

    Attributes:
        numbers: int32 (B, H, W).
        labels, crowd: of the M segments of all images, image after image.
        counts: segments of each image.
        image_ids: what the data set calls the images.
    """

    numbers: Tensor
    labels: Tensor
    crowd: Tensor
    counts: tuple[int, ...]
    image_ids: tuple[int, ...]

    @classmethod
    def of(cls, images: Sequence[Segments]) -> SegmentsBatch:
        """The batch of some images of one size."""
        return cls(
            numbers=torch.stack([each.numbers for each in images]),
            labels=torch.cat([each.labels for each in images]),
            crowd=torch.cat([each.crowd for each in images]),
            counts=tuple(map(len, images)),
            image_ids=tuple(each.image_id for each in images),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, image: int) -> Segments:
        image = range(len(self))[image]
        start = sum(self.counts[:image])
        rows = slice(start, start + self.counts[image])
        return Segments(self.numbers[image], self.labels[rows], self.crowd[rows], self.image_ids[image])

    def __iter__(self) -> Iterator[Segments]:
        return (self[image] for image in range(len(self)))

    def chunk(self, count: int) -> list[SegmentsBatch]:
        """As :meth:`torch.Tensor.chunk`: at most ``count`` batches of equal numbers of images."""
        step = -(-len(self) // count)
        return [SegmentsBatch.of([*self][start : start + step]) for start in range(0, len(self), step)]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> SegmentsBatch:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SegmentsBatch:
        """The same in memory that a GPU reads directly."""
        return self._each(Tensor.pin_memory)

    def _each(self, function: Callable[[Tensor], Tensor]) -> SegmentsBatch:
        return dataclasses.replace(
            self, numbers=function(self.numbers), labels=function(self.labels), crowd=function(self.crowd)
        )


class SegmentMaps(Protocol):
    """Where a data set keeps its maps; they are decoded when an image's turn comes."""

    def read(self, image: int, segments: range) -> np.ndarray:
        """The numbers (H, W) of an image, from 1 on, 0 for no segment.

        Args:
            image: its position in the complete data set.
            segments: its rows among all segments.

        Raises:
            BadImage: the map cannot be read, or has pixels of a segment that is not listed.
        """


@dataclass(frozen=True, eq=False)
class NumberMaps:
    """Maps in memory, uint8 or int32 (N, H, W)."""

    maps: np.ndarray

    def read(self, image: int, segments: range) -> np.ndarray:
        """As :class:`SegmentMaps`."""
        return np.asarray(self.maps[image])


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentColumn:
    """The segments of a data set as columns: ``column[i]`` are the :class:`Segments` of image i.

    ``column[indices]`` are those of some images, in that order, and share the columns.

    Attributes:
        labels, crowd: of all M segments, image after image.
        offsets: int64 (N + 1,), where the segments of each image begin.
        image_ids: int64 (N,), what the data set calls the images.
        things: bool (K,), which classes are things; the others are stuff.
        category_ids: int64 (K,), what the data set calls the classes.
        maps: where the pixels are.
        rows: int64, the images of this column among all N.
    """

    labels: np.ndarray
    crowd: np.ndarray
    offsets: np.ndarray
    image_ids: np.ndarray
    things: np.ndarray
    category_ids: np.ndarray
    maps: SegmentMaps
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Segments: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> SegmentColumn: ...
    def __getitem__(self, index: int | np.ndarray) -> Segments | SegmentColumn:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, rows=self.rows[index])
        image, rows = int(self.rows[index]), self._segments(index)
        numbers = np.ascontiguousarray(self.maps.read(image, rows), dtype=np.int32)
        part = slice(rows.start, rows.stop)
        return Segments(
            numbers=torch.from_numpy(numbers.copy()),
            labels=torch.from_numpy(self.labels[part].astype(np.int64)),
            crowd=torch.from_numpy(self.crowd[part].copy()),
            image_id=int(self.image_ids[image]),
            things=torch.from_numpy(self.things[self.labels[part]]),
        )

    def labels_of(self, index: int) -> np.ndarray:
        """The labels of the image at ``index``, int64 (n,)."""
        rows = self._segments(index)
        return self.labels[rows.start : rows.stop]

    def crowd_of(self, index: int) -> np.ndarray:
        """Which segments of the image at ``index`` are crowds, bool (n,)."""
        rows = self._segments(index)
        return self.crowd[rows.start : rows.stop]

    def counts(self, num_classes: int) -> np.ndarray:
        """Segments of each class, int64 (K,)."""
        labels = [np.empty(0, np.int64), *(self.labels_of(index) for index in range(len(self)))]
        return np.bincount(np.concatenate(labels), minlength=num_classes)

    def tobytes(self) -> bytes:
        """What tells these segments from others, pixels aside."""
        own = [self._segments(index) for index in range(len(self))]
        parts = [column[rows.start : rows.stop] for rows in own for column in (self.labels, self.crowd)]
        return b"".join(part.tobytes() for part in (*parts, self.rows, self.things))

    def _segments(self, index: int) -> range:
        """The rows of the segments of the image at ``index``."""
        image = self.rows[index]
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))


def draw_segments(
    image: Image.Image, segments: Segments, classes: Sequence[str], scores: Sequence[float] | None = None
) -> Image.Image:
    """A copy of the picture with its segments in the colours of their classes, each with its outline and name.

    Args:
        scores: of the segments, written behind their names.
    """
    numbers = Image.fromarray(segments.numbers.cpu().numpy()).resize(image.size, Image.Resampling.NEAREST)
    masks = dataclasses.replace(segments, numbers=torch.from_numpy(np.array(numbers))).masks()
    edges = boxes.of_masks(masks)
    return draw_objects(image, edges, segments.labels.tolist(), classes, scores=scores, masks=masks.numpy())
