"""What the target kinds of objects share: ``boxes`` and ``masks``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from vitrail.data.annotations import Annotations, in_words
from vitrail.data.drawing import draw_objects
from vitrail.data.media.decode import BadImage
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.data.targets import Extents, Tally, TargetKind, refusal
from vitrail.data.transforms.geometry import ImageGeometry, clipped, visible
from vitrail.ops import boxes

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.tv_tensors import TVTensor

    from vitrail.ops.grid import Pair

LOOK_FOR = "`vitrail data check` tells which files of annotations were looked for"
MARKED = "mark objects that are to be found as iscrowd 0 and difficult 0"
OVERHANG = 1.0  # pixels that a box may go beyond the image: rounding, and counting pixels from 1


class ObjectTargets(TargetKind[Objects, Annotations]):
    """The column is :class:`Annotations`, of an image there are :class:`Objects`, of a batch :class:`ObjectsBatch`."""

    has_classes = spatial = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.wording = name

    def counts(self, column: Annotations, num_classes: int) -> np.ndarray:
        return column.counts(num_classes)

    def cannot_teach(self, column: Annotations, classes: Sequence[str]) -> str | None:
        found = np.concatenate([np.empty(0, bool), *(column.ignored[_rows(column, i)] for i in range(len(column)))])
        if not len(found):
            return f"no object in {len(column):,} images: {LOOK_FOR}"
        if found.all():
            return f"all {len(found):,} objects are crowds or difficult, which nothing is learned from: {MARKED}"
        rows = np.concatenate([np.arange(each.start, each.stop) for each in map(column.objects, range(len(column)))])
        images = np.repeat(column.rows, np.diff(column.offsets)[column.rows])
        lost = _are_elsewhere(column.boxes_xyxy[rows][~found], column.sizes[images][~found])
        if column.boxes_xyxy[rows].max() <= 1:
            return f"all {len(lost):,} boxes lie in the first pixel of their image: write them in pixels, not in shares"
        if 2 * lost.sum() >= len(lost):
            return (
                f"{lost.sum():,} of {len(lost):,} boxes have no area or their centre outside the image; "
                "`vitrail data check` lists them: correct their unit, or the order of their numbers"
            )
        return None

    def most(self, column: Annotations) -> int:
        return max((int((~column.ignored[_rows(column, i)]).sum()) for i in range(len(column))), default=0)

    def tally(self, column: Annotations, index: int, num_classes: int) -> Tally:
        rows = _rows(column, index)
        crowd, ignored = column.crowd[rows], column.ignored[rows]
        own = column.labels[rows][~ignored]
        pixels = None
        if column.masks is not None:
            size = tuple(column.sizes[column.rows[index]].tolist())
            masks = column.masks.read(int(column.rows[index]), column.objects(index), (size[0], size[1]))
            pixels = np.bincount(own, masks[~ignored].sum(axis=(1, 2)), num_classes).astype(np.int64)
        return Tally(
            objects=np.bincount(own, minlength=num_classes),
            pixels=pixels,
            crowds=int(crowd.sum()),
            difficult=int((ignored & ~crowd).sum()),
            bare=0 if column.outlined is None else int((~column.outlined[rows]).sum()),
        )

    def extents(self, column: Annotations) -> Extents:
        counts = np.diff(column.offsets)[column.rows]
        rows = np.concatenate([np.empty(0, np.int64), *(np.array(column.objects(i)) for i in range(len(column)))])
        own = column.boxes_xyxy[rows.astype(np.int64)]
        shares = (own[:, 3:1:-1] - own[:, 1::-1]) / column.sizes[np.repeat(column.rows, counts)]
        return Extents(shares.clip(0, 1), int(counts.max(initial=0)))

    def text(self, column: Annotations, index: int, classes: Sequence[str]) -> str:
        return in_words(column.labels_of(index).tolist(), classes)

    def draw(self, image: Image.Image, target: Objects, classes: Sequence[str]) -> Image.Image:
        masks = None if target.masks is None else target.masks.numpy()
        labels, ignored = target.labels.tolist(), target.ignored.tolist()
        return draw_objects(image, target.boxes_xyxy, labels, classes, masks=masks, ignored=ignored)

    def size(self, target: Objects) -> tuple[int, int]:
        return target.size

    def to_input(self, target: Objects, geometry: ImageGeometry) -> Objects:
        """As above; objects that the input does not show are left out."""
        return geometry.objects(target)

    def to_original(self, target: Objects, geometry: ImageGeometry) -> Objects:
        return geometry.original_objects(target)

    def places(self, target: Objects) -> Tensor:
        return target.boxes_xyxy[~target.ignored]

    def cut_out(self, target: Objects, geometry: ImageGeometry, share: float) -> Objects:
        """As above; the box of a cut object is that of the rest of its mask, where it has one."""
        seen, areas = geometry.boxes(target.boxes_xyxy), boxes.area(target.boxes_xyxy)
        left = boxes.area(seen)
        keep = (left > 0) & (left >= share * areas)
        kept, seen, cut = target.take(keep), seen[keep], (left < areas)[keep]
        masks = None if kept.masks is None else geometry.maps(kept.masks)
        if masks is not None:
            seen = torch.where(cut[:, None], boxes.of_masks(masks), seen)
        return visible(kept.moved(seen, masks, geometry.size))

    def parts(self, target: Objects) -> dict[str, TVTensor]:
        from torchvision import tv_tensors

        box = tv_tensors.BoundingBoxes(target.boxes_xyxy, format="XYXY", canvas_size=target.size, clamping_mode=None)
        masks = {} if target.masks is None else {"masks": tv_tensors.Mask(target.masks.to(torch.uint8))}
        return {"boxes": box, **masks}

    def from_parts(self, target: Objects, parts: Mapping[str, TVTensor], size: tuple[int, int]) -> Objects:
        """As above; objects that are out of view are left out."""
        moved = parts["boxes"].as_subclass(Tensor)
        cut = clipped(moved, size)
        masks = parts["masks"].as_subclass(Tensor).bool() if "masks" in parts else None
        if masks is not None:  # what is left of an object at the border may be smaller than what is left of its box
            cut = torch.where((cut != moved).any(dim=1, keepdim=True), boxes.of_masks(masks), cut)
        return visible(target.moved(cut, masks, size))

    def combine_fault(self, *, mosaic: bool, copy_paste: bool, mixup: bool) -> str | None:
        if copy_paste and self.name == "boxes":
            return refusal("copy_paste", "by boxes alone") + ", or data.source.kind=masks where the data has masks"
        return None

    def joined(self, targets: Sequence[Objects], corners: Sequence[Pair], size: Pair) -> Objects:
        """As above; the image's id is the first one's."""
        placed = (_placed(target, corner, size) for target, corner in zip(targets, corners, strict=True))
        batch = ObjectsBatch.of(list(placed))
        return dataclasses.replace(batch, counts=(sum(batch.counts),), image_ids=batch.image_ids[:1])[0]

    def num_objects(self, target: Objects) -> int:
        return len(target)

    def pasted(self, target: Objects, other: Objects, chosen: Tensor) -> tuple[Objects, Tensor]:
        """As above; the box of an object that is partly hidden is that of the rest of its mask."""
        above = other.take(chosen & ~other.crowd)
        assert target.masks is not None
        assert above.masks is not None
        over = above.masks.any(dim=0)
        masks = target.masks & ~over
        hidden = (target.masks & over).flatten(1).any(dim=1, keepdim=True)
        cut = torch.where(hidden, boxes.of_masks(masks), target.boxes_xyxy)
        below = visible(target.moved(cut, masks, target.size))
        return self.joined([below, above], [(0, 0), (0, 0)], target.size), over

    def collate(self, targets: Sequence[Objects] | Annotations) -> ObjectsBatch:
        return ObjectsBatch.of([targets[image] for image in range(len(targets))])

    def faults(self, column: Annotations, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        own = tuple(column.sizes[column.rows[index]].tolist())
        if own != size:
            yield f"has {size[1]} × {size[0]} pixels, and its annotations are of {own[1]} × {own[0]}"
            return
        for place, row in enumerate(column.objects(index)):
            box = column.boxes_xyxy[row]
            if (fault := _box_fault(box, size)) is not None:
                name = classes[column.labels[row]]
                yield f"has at object {place} ({name}) a box {fault}: {', '.join(f'{side:g}' for side in box)}"
        if column.masks is None:
            return
        try:
            masks = column.masks.read(int(column.rows[index]), column.objects(index), size)
        except BadImage as error:
            yield str(error)
            return
        for place in np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
            name = classes[column.labels_of(index)[place]]
            yield f"has at object {place} ({name}) a mask without a pixel"


def _rows(column: Annotations, index: int) -> slice:
    found = column.objects(index)
    return slice(found.start, found.stop)


def _placed(objects: Objects, corner: Pair, size: Pair) -> Objects:
    """Those of an image in one of ``size`` (height, width), at its (top, left) ``corner``."""
    (top, left), (height, width), masks = corner, objects.size, objects.masks
    if masks is not None:
        masks = pad(masks, (left, size[1] - left - width, top, size[0] - top - height))
    start = objects.boxes_xyxy.new_tensor([left, top] * 2)
    return objects.moved(objects.boxes_xyxy + start, masks, size)


def _are_elsewhere(boxes_xyxy: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool (N,): which of N boxes hold nothing of their image (height, width) to speak of."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centre = (low + high) / 2
    return np.asarray(((high <= low) | (centre < 0) | (centre > sizes[:, ::-1])).any(axis=1))


def _box_fault(box: np.ndarray, size: tuple[int, int]) -> str | None:
    left, top, right, bottom = box.tolist()
    height, width = size
    if right <= left or bottom <= top:
        return "without area"
    if min(left, top) < -OVERHANG or right > width + OVERHANG or bottom > height + OVERHANG:
        return f"that leaves the {width} × {height} pixels of the image"
    return None
