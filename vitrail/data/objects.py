"""The objects of one image and of a batch of images: boxes, labels and, where they are known, masks.

N objects, of an image of H × W pixels. Boxes are left, top, right, bottom; pixel (0, 0) reaches from 0 to 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def _each(self, function: Callable[[Tensor], Tensor]) -> ObjectsBatch:
        return dataclasses.replace(
            self,
            boxes_xyxy=function(self.boxes_xyxy),
            labels=function(self.labels),
            crowd=function(self.crowd),
            masks=None if self.masks is None else function(self.masks),
        )
