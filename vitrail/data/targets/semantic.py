"""A class for each pixel; 255 where it is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitrail.data.drawing import draw_map
from vitrail.data.map_targets import MapTargets
from vitrail.data.media.decode import BadImage
from vitrail.data.media.label_windows import WindowedLabels
from vitrail.data.targets import MORE_CLASSES, Column, Tally
from vitrail.ops.segmentation_losses import IGNORE

if TYPE_CHECKING:
    from PIL import Image


class ClassMaps(MapTargets[Column]):
    """The column has maps uint8 (H, W) by position; a batch is int64 (B, H, W)."""

    wording = "a class for each pixel"
    has_classes = True
    unknown = IGNORE

    def collate(self, targets: Sequence[Tensor] | Column) -> Tensor:
        return super().collate(targets).long()

    def cannot_teach(self, column: Column, classes: Sequence[str]) -> str | None:
        seen: set[int] = set()
        known: list[int] = []
        for index in range(len(column)):  # two classes are met soon
            try:
                seen.update(np.unique(np.asarray(column[index])).tolist())
            except BadImage:
                continue
            if len(known := sorted(seen - {IGNORE})) > 1:
                return None
        if not seen:
            return None  # no map could be read, which loading names
        if not known:
            return f"all pixels of {len(column):,} masks are {IGNORE}, which is ignored; write numbers of classes"
        name = classes[known[0]] if known[0] < len(classes) else str(known[0])
        return f"all pixels of {len(column):,} masks are of one class, {name!r}; {MORE_CLASSES}"

    def tally(self, column: Column, index: int, num_classes: int) -> Tally:
        found = np.bincount(np.asarray(column[index]).ravel(), minlength=IGNORE + 1)
        return Tally(pixels=found[:num_classes])

    def text(self, column: Column, index: int, classes: Sequence[str]) -> str:
        return ", ".join(classes[i] for i in np.unique(np.asarray(column[index])) if i < len(classes)) or "no class"

    def draw(self, image: Image.Image, target: Tensor, classes: Sequence[str]) -> Image.Image:
        return draw_map(image, np.asarray(target), classes)

    def require_known(self, target: Tensor, num_classes: int) -> None:
        if isinstance(target, WindowedLabels):
            target.num_classes = num_classes
            return
        strange = (target >= num_classes) & (target != IGNORE)
        if bool(strange.any()):
            raise BadImage(_of_unknown(int(target[strange].min()), num_classes))

    def faults(self, column: Column, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        try:
            found = np.asarray(column[index])
        except BadImage as error:
            yield str(error)
            return
        if found.shape != size:
            yield f"has {size[1]} × {size[0]} pixels, and its mask has {found.shape[1]} × {found.shape[0]}"
        unknown = np.unique(found[(found >= len(classes)) & (found != IGNORE)])
        if len(unknown):
            yield _of_unknown(int(unknown[0]), len(classes))


def _of_unknown(number: int, num_classes: int) -> str:
    return f"has a mask with the unknown class {number} of {num_classes}"


KIND = ClassMaps("semantic")
