"""Targets of one kind as another kind that a format holds: masks as class maps, maps as their connected parts, segments
of things as objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from vitrail import console
from vitrail.data.annotations import Annotations
from vitrail.data.segments import SegmentColumn
from vitrail.data.source import Source, Splits
from vitrail.data.storage.objects import Columns, annotations_of
from vitrail.data.storage.outlines import RunLengths
from vitrail.data.targets import Labels
from vitrail.ops import boxes, rle
from vitrail.ops.segmentation_losses import IGNORE

BACKGROUND = "background"


def adapted(splits: Splits, kinds: Sequence[str]) -> Splits:
    """The splits with targets of one of ``kinds``, where theirs can be made such; else as they are."""
    for kind in kinds:
        change = _CHANGES.get((splits.kind, kind))
        if change is not None:
            tell(splits.kind, kind)
            return Splits(**{split: change.made(source) for split, source in splits.items()})
    return splits


def tell(kind: str, other: str) -> None:
    """Say that targets are written as another kind, and what is lost."""
    change = _CHANGES.get((kind, other))
    if change is not None:
        console.warn(f"{kind} are written as {other}: {change.lost}")
    else:
        console.note(f"the data is read as {other}, not as {kind}")


class Change(NamedTuple):
    """How targets become those of another kind, and what is lost on the way."""

    made: Callable[[Source], Source]
    lost: str


@dataclass(frozen=True, eq=False)
class Painted:
    """Class maps of masks or segments: ``maps[i]`` uint8 (H, W), the background, then the classes.

    Of objects that overlap the smaller one is on top; crowds are 255.
    """

    column: Annotations | SegmentColumn
    first: int
    """The number of the first class."""
    background: int

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: np.ndarray) -> Painted: ...
    def __getitem__(self, index: int | np.ndarray) -> np.ndarray | Painted:
        if isinstance(index, np.ndarray):
            return dataclasses.replace(self, column=self.column[index])
        found = self.column[index]
        masks = found.masks() if callable(found.masks) else found.masks
        assert masks is not None
        canvas = np.full(found.size, self.background, np.uint8)
        areas = masks.flatten(1).sum(dim=1)
        for row in areas.argsort(descending=True, stable=True).tolist():
            canvas[masks[row].numpy()] = IGNORE if bool(found.crowd[row]) else self.first + int(found.labels[row])
        return canvas

    def tobytes(self) -> bytes:
        """As of the objects."""
        return self.column.tobytes()


def _painted(source: Source) -> Source:
    column = source.targets
    assert isinstance(column, Annotations | SegmentColumn)
    whole = isinstance(column, SegmentColumn) or BACKGROUND in source.classes
    classes = source.classes if whole else (BACKGROUND, *source.classes)
    background = classes.index(BACKGROUND) if BACKGROUND in classes else IGNORE
    maps = Painted(column, 0 if whole else 1, background)
    return source.labelled(Labels("semantic", classes, maps))


def _boxes(source: Source) -> Source:
    return source.labelled(Labels("boxes", source.classes, annotations_of(source).without_masks()))


def _parts(source: Source) -> Source:
    """Each connected part of a class but the background as an object."""
    from scipy import ndimage

    classes = tuple(name for name in source.classes if name != BACKGROUND)
    label_of = {source.classes.index(name): label for label, name in enumerate(classes)}
    columns = Columns()
    maps = source.targets
    for index in console.track(range(len(source)), "finding objects"):
        pixels = np.asarray(maps[index])
        columns.image(source.name(index).encode("utf-8", "surrogateescape"), (pixels.shape[0], pixels.shape[1]))
        for value, label in label_of.items():
            parts, _ = ndimage.label(pixels == value, structure=np.ones((3, 3)))
            for number, (rows, across) in enumerate(ndimage.find_objects(parts), start=1):
                box = (across.start, rows.start, across.stop, rows.stop)
                mask = parts == number
                counts = rle.to_text(rle.encode(mask))
                columns.add(box, label, area=float(mask.sum()), shape={"size": [*pixels.shape], "counts": counts})
    return source.labelled(Labels("masks", classes, columns.close(range(1, len(classes) + 1))))


def _things(source: Source) -> Source:
    """Each segment of a thing as an object with its mask."""
    column = source.targets
    assert isinstance(column, SegmentColumn)
    kept = [label for label, thing in enumerate(column.things.tolist()) if thing]
    label_of = {label: place for place, label in enumerate(kept)}
    columns = Columns()
    for index in console.track(range(len(source)), "finding objects"):
        found = column[index]
        columns.image(source.name(index).encode("utf-8", "surrogateescape"), found.size, found.image_id)
        masks = found.masks()
        edges = boxes.of_masks(masks).tolist() if len(found) else []
        for place, (label, crowd) in enumerate(zip(found.labels.tolist(), found.crowd.tolist(), strict=True)):
            if label in label_of:
                runs = rle.to_text(rle.encode(masks[place].numpy()))
                shape: RunLengths = {"size": [*found.size], "counts": runs}
                area = float(found.areas[place])
                columns.add(edges[place], label_of[label], crowd=crowd, area=area, shape=shape)
    ids = column.category_ids[kept].tolist()
    return source.labelled(Labels("masks", tuple(source.classes[label] for label in kept), columns.close(ids)))


_NO_OUTLINES = "outlines are left out"
_NO_OBJECTS = "which object a pixel is of is left out, and crowds are 255, which is unknown"
_PARTS = "each connected part of a class is an object, and unknown pixels (255) are left out"
_NO_STUFF = "segments of stuff are left out"
_CHANGES = {
    ("masks", "semantic"): Change(_painted, _NO_OBJECTS),
    ("masks", "boxes"): Change(_boxes, _NO_OUTLINES),
    ("semantic", "masks"): Change(_parts, _PARTS),
    ("semantic", "boxes"): Change(lambda source: _boxes(_parts(source)), f"{_PARTS}; {_NO_OUTLINES}"),
    ("panoptic", "semantic"): Change(_painted, _NO_OBJECTS),
    ("panoptic", "masks"): Change(_things, _NO_STUFF),
    ("panoptic", "boxes"): Change(lambda source: _boxes(_things(source)), f"{_NO_STUFF}; {_NO_OUTLINES}"),
}
"""By the kind that there is and the kind that is wanted."""
