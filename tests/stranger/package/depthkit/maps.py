"""The target kind: a depth in metres for each pixel, 0 where it is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from depthkit.colours import blended
from vitrail.data import BadImage
from vitrail.data.map_targets import MapTargets
from vitrail.data.targets import Column


class DepthMaps(MapTargets[Column]):
    """The column has maps float32 (H, W) by position; a batch is float32 (B, H, W)."""

    wording = "a depth for each pixel"
    noun = "map"
    numeric = True
    unknown = 0.0

    def ranges(self, column: Column, names: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
        known = [depths[depths > 0] for depths in (np.asarray(column[i]) for i in range(len(column)))]
        values = np.concatenate(known, dtype=np.float64)
        if not len(values):
            return {}
        return {names[0]: (float(values.min()), float(values.mean()), float(values.std()), float(values.max()))}

    def faults(self, column: Column, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        try:
            depths = np.asarray(column[index])
        except BadImage as error:
            yield str(error)
            return
        if depths.shape != size:
            yield f"has {size[1]} × {size[0]} pixels, and its depth map has {depths.shape[1]} × {depths.shape[0]}"
        if not np.isfinite(depths).all() or (depths < 0).any():
            yield "has a depth map with values that are negative or not finite"

    def text(self, column: Column, index: int, classes: Sequence[str]) -> str:
        depths = np.asarray(column[index])
        return f"{depths[depths > 0].mean():.3g} m" if depths.any() else "no depth"

    def draw(self, image: Image.Image, target: Tensor, classes: Sequence[str]) -> Image.Image:
        return blended(image, np.asarray(target))


KIND = DepthMaps("depthkit.maps")
