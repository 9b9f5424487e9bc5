"""Where the pixels of a model's input lie in the image that it was made of: the way there, and the way back.

Whatever moves boxes or masks between the two uses an :class:`ImageGeometry`; ``Preprocess.geometry`` makes it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.data.objects import Objects
from vitrail.ops.grid import Pair


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

    def padding(self) -> Tensor:
        """bool (H, W): which pixels of the input lie beyond the image."""
        return ~self.maps(torch.ones(self.original, dtype=torch.bool))

    def objects(self, objects: Objects) -> Objects:
        """Those of the image as the input shows them; those that it does not show are left out."""
        masks = None if objects.masks is None else self.maps(objects.masks)
        moved = dataclasses.replace(objects, boxes_xyxy=self.boxes(objects.boxes_xyxy), masks=masks, size=self.size)
        return visible(moved)

    def original_objects(self, objects: Objects) -> Objects:
        """Objects found in the input as the image has them."""
        masks = None if objects.masks is None else self.original_maps(objects.masks)
        boxes = self.original_boxes(objects.boxes_xyxy)
        return dataclasses.replace(objects, boxes_xyxy=boxes, masks=masks, size=self.original)

    def _map(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The region's first corner and the scale, each for x, y, x, y."""
        left, top, right, bottom = self.region
        height, width = self.size
        scale = width / (right - left), height / (bottom - top)
        return like.new_tensor([left, top] * 2), like.new_tensor(scale * 2)


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
