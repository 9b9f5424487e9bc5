"""Where the pixels of a model's input lie in the image that it was made of: the way there, and the way back.

Whatever moves boxes or masks between the two uses an :class:`ImageGeometry`; ``Preprocess.geometry`` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.objects import Objects
from vitrail.ops.grid import Pair

BAND = 1 << 23  # numbers of an image's pixels that are made at once; more of them are no faster
MASKS = 1 << 26  # pixels of masks likewise


@dataclass(frozen=True)
class ImageGeometry:
    """A part of an image, resized to the model's size.

    Attributes:
        region: left, top, right, bottom of the part in the image's pixels; it may go beyond the image.
        size: (height, width) of the model's input.
        original: (height, width) of the image.
    """

    region: tuple[float, float, float, float]
    size: Pair
    original: Pair

    @classmethod
    def identity(cls, size: Pair) -> ImageGeometry:
        """That of an image of this (height, width) which is the input itself."""
        return cls((0, 0, size[1], size[0]), size, size)

    def boxes(self, boxes_xyxy: Tensor) -> Tensor:
        """(..., 4) in pixels of the image → in pixels of the input, cut at its border."""
        start, scale = self._map(boxes_xyxy)
        return clipped((boxes_xyxy - start) * scale, self.size)

    def original_boxes(self, boxes_xyxy: Tensor) -> Tensor:
        """(..., 4) in pixels of the input → in pixels of the image, cut at its border."""
        start, scale = self._map(boxes_xyxy)
        return clipped(boxes_xyxy / scale + start, self.original)

    def maps(self, maps: Tensor, fill: float = 0) -> Tensor:
        """Masks or class maps (..., h, w) of the image → (..., H, W) of the input; ``fill`` beyond the image.

        Each pixel takes the value at its centre.
        """
        left, top, right, bottom = self.region
        rows = _centres(self.size[0]) * (bottom - top) + top
        columns = _centres(self.size[1]) * (right - left) + left
        return _taken(maps, rows, columns, fill)

    def original_maps(self, maps: Tensor, fill: float = 0) -> Tensor:
        """Masks or class maps (..., H, W) of the input → (..., h, w) of the image; ``fill`` where it was cut off."""
        left, top, right, bottom = self.region
        rows = (_centres(self.original[0]) * self.original[0] - top) / (bottom - top) * self.size[0]
        columns = (_centres(self.original[1]) * self.original[1] - left) / (right - left) * self.size[1]
        return _taken(maps, rows, columns, fill)

    def bands(self, values: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Numbers (N, H, W) of the input → rows of the image and their numbers (N, rows, w), bilinearly, from the top.

        What is decided from them (the largest, those above a threshold) is decided for each pixel of the image, and a
        part of its rows at a time takes little memory. Of a smaller grid (N, h', w') the input's are made first, also
        bilinearly. Padding has no part in them, and beyond the input they are those of its edge (:meth:`unseen`).
        """
        if values.shape[-2:] != self.size:
            values = F.interpolate(values[None], self.size, mode="bilinear", align_corners=False)[0]
        step = max(1, BAND // max(1, len(values) * self.original[1]))
        if self == ImageGeometry.identity(self.size):  # the products below would change nothing
            for start in range(0, self.original[0], step):
                yield (rows := slice(start, start + step)), values[:, rows]
            return
        (height, down), (width, across) = (self._weights(axis) for axis in (0, 1))
        values, down, across = values[:, height, width], down.to(values), across.to(values)
        for start in range(0, self.original[0], step):
            rows = slice(start, start + step)
            used = down[rows].any(dim=0).nonzero()
            part = slice(int(used[0]), int(used[-1]) + 1)
            with torch.autocast(values.device.type, enabled=False):
                band = down[rows, part] @ (values[:, part].contiguous() @ across.T)  # one product of all N
            yield rows, band

    def original_values(self, values: Tensor, fill: float = 0) -> Tensor:
        """Numbers (N, H, W) of the input, or of a smaller grid → (N, h, w) of the image, bilinearly; ``fill`` where it
        was cut off."""
        found = values.new_empty((len(values), *self.original))
        for rows, band in self.bands(values):
            found[:, rows] = band
        return found.masked_fill_(self.unseen().to(values.device), fill)

    def original_labels(self, logits: Tensor, fill: int) -> Tensor:
        """Logits (K, H, W) of the input → the likeliest class of each pixel of the image, uint8 (h, w); ``fill`` where
        it was cut off."""
        labels = torch.empty(self.original, dtype=torch.uint8, device=logits.device)
        for rows, band in self.bands(logits):
            labels[rows] = band.max(dim=0).indices  # faster than argmax
        return labels.masked_fill_(self.unseen().to(logits.device), fill)

    def original_masks(self, logits: Tensor) -> Iterator[Tensor]:
        """Logits (N, H, W) of the input, or of a smaller grid → which pixels of the image are over 0, a bool (h, w) for
        each of N; none where it was cut off."""
        seen = ~self.unseen().to(logits.device)
        for some in logits.split(max(1, MASKS // seen.numel())) if len(logits) else ():
            masks = seen.repeat(len(some), 1, 1)
            for rows, band in self.bands(some):
                masks[:, rows] &= band > 0
            yield from masks

    def padding(self) -> Tensor:
        """bool (H, W): which pixels of the input lie beyond the image."""
        return ~self.maps(torch.ones(self.original, dtype=torch.bool))

    def unseen(self) -> Tensor:
        """bool (h, w): which pixels of the image lie beyond the input."""
        return ~self.original_maps(torch.ones(self.size, dtype=torch.bool))

    def objects(self, objects: Objects) -> Objects:
        """Those of the image as the input shows them; those that it does not show are left out."""
        masks = None if objects.masks is None else self.maps(objects.masks)
        return visible(objects.moved(self.boxes(objects.boxes_xyxy), masks, self.size))

    def original_objects(self, objects: Objects) -> Objects:
        """Objects found in the input as the image has them."""
        masks = None if objects.masks is None else self.original_maps(objects.masks)
        return objects.moved(self.original_boxes(objects.boxes_xyxy), masks, self.original)

    def _map(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The region's first corner and the scale, each for x, y, x, y."""
        left, top, right, bottom = self.region
        height, width = self.size
        scale = width / (right - left), height / (bottom - top)
        return like.new_tensor([left, top] * 2), like.new_tensor(scale * 2)

    def _weights(self, axis: int) -> tuple[slice, Tensor]:
        """The input's rows (axis 0) or columns (1) that show the image, and their weights for each of the image: of the
        two that it lies between, or of one at the edge."""
        start, end = self.region[1 - axis], self.region[3 - axis]
        length, own = self.size[axis], self.original[axis]
        seen = _centres(length) * (end - start) + start
        inside = ((seen >= 0) & (seen < own)).nonzero()
        first, last = int(inside[0]), int(inside[-1])
        at = ((_centres(own) * own - start) / (end - start) * length - 0.5).clamp(first, last)
        weights = (1 - (at[:, None] - torch.arange(first, last + 1)).abs()).clamp(min=0)
        return slice(first, last + 1), weights


def identities(images: Tensor) -> list[ImageGeometry]:
    """Those of B C H W that are images themselves."""
    return [ImageGeometry.identity((images.shape[-2], images.shape[-1]))] * len(images)


def clipped(boxes_xyxy: Tensor, size: Pair) -> Tensor:
    """Boxes (..., 4) cut at the border of an image of this (height, width)."""
    height, width = size
    return torch.stack([b.clamp(0, s) for b, s in zip(boxes_xyxy.unbind(-1), (width, height) * 2, strict=True)], dim=-1)


def visible(objects: Objects) -> Objects:
    """Those of which at least a pixel is in view, by box and, where there is one, by mask."""
    width, height = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).unbind(-1)
    seen = (width > 0) & (height > 0) & (width * height >= 1)
    if objects.masks is not None:
        seen &= objects.masks.flatten(1).any(dim=1)
    return objects if seen.all() else objects.take(seen)


def _centres(length: int) -> Tensor:
    """Of that many pixels, as shares of the length."""
    return (torch.arange(length, dtype=torch.float64) + 0.5) / length


def _taken(maps: Tensor, rows: Tensor, columns: Tensor, fill: float) -> Tensor:
    """The values at these places, (..., rows, columns)."""
    places = []
    outside = []
    for at, length in zip((rows, columns), maps.shape[-2:], strict=True):
        place = torch.floor(at).long()
        outside.append((place < 0) | (place >= length))
        places.append(place.clamp(0, length - 1).to(maps.device))
    taken = maps[..., places[0], :][..., places[1]]
    beyond = outside[0][:, None] | outside[1][None, :]
    return taken.masked_fill(beyond.to(maps.device), fill) if beyond.any() else taken
