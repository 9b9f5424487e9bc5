"""Depth maps in colours: red is near, blue is far, black is unknown."""

from __future__ import annotations

import numpy as np
from PIL import Image


def coloured(depths: np.ndarray, farthest: float | None = None) -> Image.Image:
    """Depths (H, W) as an RGB image.

    Args:
        farthest: the depth that is drawn in blue; default: the largest of the map.
    """
    import matplotlib

    farthest = farthest or float(depths.max()) or 1.0
    pixels = matplotlib.colormaps["turbo_r"](depths / farthest, bytes=True)[..., :3]
    return Image.fromarray(np.where(depths[..., None] > 0, pixels, 0).astype(np.uint8))


def blended(image: Image.Image, depths: np.ndarray) -> Image.Image:
    """A copy of the image with depths of any size over it."""
    colours = coloured(depths).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("RGB"), colours, 0.6)
