"""Segments that share out the pixels of an image: things one by one, and stuff."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vitrail.data.annotations import in_words
from vitrail.data.media.decode import BadImage
from vitrail.data.object_targets import LOOK_FOR, MARKED
from vitrail.data.segments import VOID, SegmentColumn, Segments, SegmentsBatch, draw_segments
from vitrail.data.targets import Tally, TargetKind

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.tv_tensors import TVTensor

    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.ops.grid import Pair


class SegmentTargets(TargetKind[Segments, SegmentColumn]):
    """The column is a :class:`SegmentColumn`, of an image there are :class:`Segments`, of a batch
    :class:`SegmentsBatch`."""

    wording = "a segment for each pixel"
    has_classes = spatial = True

    def cannot_teach(self, column: SegmentColumn, classes: Sequence[str]) -> str | None:
        found = [column.crowd_of(index) for index in range(len(column))]
        if not sum(map(len, found)):
            return f"no segment in {len(column):,} images: {LOOK_FOR}"
        if all(crowd.all() for crowd in found):
            return f"all {sum(map(len, found)):,} segments are crowds, which nothing is learned from: {MARKED}"
        return None

    def most(self, column: SegmentColumn) -> int:
        return max((int((~column.crowd_of(index)).sum()) for index in range(len(column))), default=0)

    def tally(self, column: SegmentColumn, index: int, num_classes: int) -> Tally:
        labels, crowd = column.labels_of(index), column.crowd_of(index)
        areas = column[index].areas.numpy()
        pixels = np.bincount(labels, areas, num_classes).astype(np.int64)
        return Tally(np.bincount(labels[~crowd], minlength=num_classes), pixels, crowds=int(crowd.sum()))

    def counts(self, column: SegmentColumn, num_classes: int) -> np.ndarray:
        return column.counts(num_classes)

    def text(self, column: SegmentColumn, index: int, classes: Sequence[str]) -> str:
        return in_words(column.labels_of(index).tolist(), classes)

    def draw(self, image: Image.Image, target: Segments, classes: Sequence[str]) -> Image.Image:
        return draw_segments(image, target, classes)

    def size(self, target: Segments) -> tuple[int, int]:
        return target.size

    def to_input(self, target: Segments, geometry: ImageGeometry) -> Segments:
        """As above; segments that the input does not show are left out."""
        return replace(target, numbers=geometry.maps(target.numbers, VOID)).visible()

    def to_original(self, target: Segments, geometry: ImageGeometry) -> Segments:
        return replace(target, numbers=geometry.original_maps(target.numbers, VOID))

    def places(self, target: Segments) -> Tensor:
        """As above, of the things."""
        from scipy import ndimage

        wanted = (target.is_thing() & ~target.crowd).tolist()
        found = ndimage.find_objects(target.numbers.numpy(), len(wanted))
        sides = [(x.start, y.start, x.stop, y.stop) for (y, x) in filter(None, itertools.compress(found, wanted))]
        return torch.tensor(sides, dtype=torch.float32).reshape(-1, 4)

    def parts(self, target: Segments) -> dict[str, TVTensor]:
        from torchvision.tv_tensors import Mask

        return {"numbers": Mask(target.numbers)}

    def from_parts(self, target: Segments, parts: Mapping[str, TVTensor], size: tuple[int, int]) -> Segments:
        """As above; segments that are out of view are left out."""
        return replace(target, numbers=parts["numbers"].as_subclass(Tensor)).visible()

    def combine_fault(self, *, mosaic: bool, copy_paste: bool, mixup: bool) -> str | None:
        return super().combine_fault(mosaic=False, copy_paste=False, mixup=mixup)

    def joined(self, targets: Sequence[Segments], corners: Sequence[Pair], size: Pair) -> Segments:
        """As above; a class of stuff becomes one segment. The image's id is the first one's."""
        numbers = targets[0].numbers.new_full(size, VOID)
        starts = np.cumsum([0, *map(len, targets)]).tolist()
        for target, (top, left), start in zip(targets, corners, starts[:-1], strict=True):
            height, width = target.size
            own = torch.where(target.numbers == VOID, VOID, target.numbers + start)
            numbers[top : top + height, left : left + width] = own
        return _together(targets, numbers).with_stuff_merged()

    def num_objects(self, target: Segments) -> int:
        return len(target)

    def pasted(self, target: Segments, other: Segments, chosen: Tensor) -> tuple[Segments, Tensor]:
        """As above; stuff stays where it is."""
        chosen = chosen & ~other.crowd & other.is_thing()
        over = torch.cat((chosen.new_zeros(1), chosen))[other.numbers.long()]
        numbers = torch.where(over, other.numbers + len(target), target.numbers)
        return _together([target, other], numbers).visible(), over

    def collate(self, targets: Sequence[Segments] | SegmentColumn) -> SegmentsBatch:
        return SegmentsBatch.of([targets[image] for image in range(len(targets))])

    def faults(self, column: SegmentColumn, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        try:
            found = column[index]
        except BadImage as error:
            yield str(error)
            return
        if found.size != size:
            yield f"has {size[1]} × {size[0]} pixels, and its map has {found.size[1]} × {found.size[0]}"
        for place in np.flatnonzero(found.areas.numpy() == 0).tolist():
            yield f"has at segment {place} ({classes[int(found.labels[place])]}) no pixel in its map"


def _together(targets: Sequence[Segments], numbers: Tensor) -> Segments:
    """The segments of all, one after the other, in one map of their numbers."""
    columns = zip(*((each.labels, each.crowd, each.is_thing()) for each in targets), strict=True)
    labels, crowd, things = map(torch.cat, columns)
    return Segments(numbers, labels, crowd, targets[0].image_id, things)


KIND = SegmentTargets("panoptic")
