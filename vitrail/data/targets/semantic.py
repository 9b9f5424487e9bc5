"""A class for each pixel; 255 where it is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitrail.data.drawing import draw_map
from vitrail.data.map_targets import MapTargets
from vitrail.data.media.decode import BadImage
from vitrail.data.targets import Column
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

    def text(self, column: Column, index: int, classes: Sequence[str]) -> str:
        return ", ".join(classes[i] for i in np.unique(np.asarray(column[index])) if i < len(classes)) or "no class"

    def draw(self, image: Image.Image, target: Tensor, classes: Sequence[str]) -> Image.Image:
        return draw_map(image, np.asarray(target), classes)

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
            yield f"has a mask with the unknown class {unknown[0]} of {len(classes)}"


KIND = ClassMaps("semantic")
