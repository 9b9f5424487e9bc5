"""Heat maps drawn on their images."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vitrail import fonts
from vitrail.explain import Heat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Region = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the picture; may go beyond it."""

COLOURS = "inferno"  # perceptually uniform: equal steps of heat look like equal steps of colour
SIDES = (320, 1024)  # the longer side of an overlay, in pixels, is brought between these
OPACITY = (0.15, 0.75)  # of no heat and of the strongest
UNSEEN, OUTSIDE = -9.0, 0.35  # mark and brightness of what the model did not see


def overlay(picture: Image.Image, heat: Heat, region: Region) -> Image.Image:
    """The picture in grey, RGB, with the heat on the part that the model receives and the rest dimmed.

    Args:
        picture: before preprocessing.
        region: the part that the model receives, from ``Preprocess.region``.
    """
    from matplotlib import colormaps

    picture, (left, top, right, bottom) = fit(picture, region)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32) / 255
    size = max(right - left, 1), max(bottom - top, 1)
    patches = Image.fromarray(scaled(heat.values).astype(np.float32))
    canvas = Image.new("F", picture.size, UNSEEN)
    canvas.paste(patches.resize(size, Image.Resampling.BICUBIC), (left, top))
    values = np.asarray(canvas)[..., None]
    strength = values.clip(0, 1)
    opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * strength
    colour = colormaps[COLOURS](strength[..., 0])[..., :3]
    mixed = np.where(values == UNSEEN, grey * OUTSIDE, grey * (1 - opacity) + colour * opacity)
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def heat_png(heat: Heat) -> bytes:
    """The heat alone as the bytes of a PNG, a square a patch."""
    from matplotlib import colormaps

    colour = (colormaps[COLOURS](scaled(heat.values))[..., :3] * 255).round().astype(np.uint8)
    cell = max(SIDES[0] // max(heat.values.shape), 1)
    buffer = io.BytesIO()
    picture = Image.fromarray(colour)
    size = picture.width * cell, picture.height * cell
    picture.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def outline(picture: Image.Image, region: Region) -> Image.Image:
    """The picture, RGB, at the overlays' size, with a frame around the part that the model receives."""
    picture, (left, top, right, bottom) = fit(picture, region)
    box = max(left, 0), max(top, 0), min(right, picture.width) - 1, min(bottom, picture.height) - 1
    if box != (0, 0, picture.width - 1, picture.height - 1):
        ImageDraw.Draw(picture).rectangle(box, outline=(255, 255, 255), width=max(picture.width // 200, 1))
    return picture


def scaled(values: np.ndarray) -> np.ndarray:
    """Heat from 0 to 1; it saturates at the 97th percentile, so that a few outliers do not hide all others."""
    low, high = values.min(), np.quantile(values, 0.97)
    if high <= low:
        high = values.max()
    return ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)


def sheet(picture: Image.Image, heats: Sequence[Heat], region: Region, title: str = "") -> Figure:
    """A figure of the picture and all its overlays."""
    from matplotlib.figure import Figure

    panels = [(title, outline(picture, region)), *((h.title, overlay(picture, h, region)) for h in heats)]
    columns = min(len(panels), max(3, math.ceil(math.sqrt(len(panels)))))
    rows = math.ceil(len(panels) / columns)
    aspect = panels[0][1].height / panels[0][1].width
    figure = Figure(figsize=(3 * columns, (3 * aspect + 0.35) * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, image) in zip(axes, panels, strict=False):
        axis.imshow(image)
        axis.set_title(name, fontsize=9, fontfamily=fonts.families())
    return figure


def fit(picture: Image.Image, region: Region) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture as RGB at a legible size, with the region in its new pixels."""
    longest = max(picture.size)
    scale = min(max(longest, SIDES[0]), SIDES[1]) / longest
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    left, top, right, bottom = (round(edge * scale) for edge in region)
    return picture.convert("RGB").resize(size, resample), (left, top, right, bottom)
