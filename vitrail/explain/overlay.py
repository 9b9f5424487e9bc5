"""Maps of patches drawn on their images."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from vitrail import fonts
from vitrail.console import printable
from vitrail.errors import UserError
from vitrail.explain.maps import PatchMap
from vitrail.explain.maps import scaled as scaled
from vitrail.ops.grid import Pair

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Region = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the picture; may go beyond it."""

SIDES = (320, 1024)  # the longer side of an overlay, in pixels, is brought between these
LETTERS = 40  # of a line above a panel of a sheet
UNSEEN, OUTSIDE = -9.0, 0.35  # mark and brightness of what the model did not see
CHOSEN = ((0, 0, 0), (92, 225, 255))  # the frame of a patch, outside and inside


def overlay(picture: Image.Image, found: PatchMap, region: Region) -> Image.Image:
    """The picture in grey, RGB, with the map on the part that the model receives and the rest dimmed.

    Args:
        picture: before preprocessing.
        region: the part that the model receives, from ``Preprocess.region``.
    """
    picture, (left, top, right, bottom) = fit(picture, region)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float32) / 255
    size = max(right - left, 1), max(bottom - top, 1)
    planes = []
    for plane in np.moveaxis(found.planes.astype(np.float32), -1, 0):
        canvas = Image.new("F", picture.size, UNSEEN)
        canvas.paste(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC), (left, top))
        planes.append(np.asarray(canvas))
    stacked = np.stack(planes, axis=-1)
    colour, opacity = found.paint(stacked)
    mixed = np.where(stacked[..., :1] == UNSEEN, grey * OUTSIDE, grey * (1 - opacity) + colour * opacity)
    drawn = Image.fromarray((mixed * 255).round().astype(np.uint8))
    if found.patch is not None:
        rows, columns = found.values.shape[:2]
        _frame(drawn, found.patch, (rows, columns), (left, top, right, bottom))
    return drawn


def patch_at(point: tuple[float, float], region: Region, grid: Pair) -> int:
    """The patch, counted row by row, at a point (x, y) in pixels of the picture.

    Raises:
        UserError: the model does not receive this part of the picture.
    """
    (x, y), (left, top, right, bottom), (rows, columns) = point, region, grid
    column, row = math.floor((x - left) / (right - left) * columns), math.floor((y - top) / (bottom - top) * rows)
    if not (0 <= row < rows and 0 <= column < columns):
        seen = f"{max(left, 0):.0f},{max(top, 0):.0f} to {right:.0f},{bottom:.0f}"
        raise UserError(f"the model does not receive the point {x:g},{y:g}; choose one from {seen}")
    return row * columns + column


def _frame(drawing: Image.Image, patch: int, grid: Pair, box: tuple[int, int, int, int]) -> None:
    """Outline a patch of the grid that fills the box, in place."""
    (rows, columns), (left, top, right, bottom) = grid, box
    row, column = divmod(patch, columns)
    width, height = (right - left) / columns, (bottom - top) / rows
    x, y = left + column * width, top + row * height
    thick = max(min(drawing.size) // 100, 1)
    for colour, reach in zip(CHOSEN, (2 * thick, thick), strict=True):
        frame = (x - reach, y - reach, x + width + reach, y + height + reach)
        ImageDraw.Draw(drawing).rectangle(frame, outline=colour, width=thick)


def map_png(found: PatchMap) -> bytes:
    """The map alone as the bytes of a PNG, a square a patch."""
    colour = (found.paint(found.planes)[0] * 255).round().astype(np.uint8)
    cell = max(SIDES[0] // max(found.values.shape[:2]), 1)
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


def sheet(picture: Image.Image, maps: Sequence[PatchMap], region: Region, title: str = "") -> Figure:
    """A figure of the picture and all its overlays."""
    from matplotlib.figure import Figure

    panels = [(title, outline(picture, region)), *((h.title, overlay(picture, h, region)) for h in maps)]
    columns = min(len(panels), max(3, math.ceil(math.sqrt(len(panels)))))
    rows = math.ceil(len(panels) / columns)
    aspect = panels[0][1].height / panels[0][1].width
    figure = Figure(figsize=(3 * columns, (3 * aspect + 0.35) * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, image) in zip(axes, panels, strict=False):
        axis.imshow(image)
        axis.set_title(
            textwrap.fill(printable(name), LETTERS), fontsize=9, fontfamily=fonts.families(), parse_math=False
        )
    return figure


def fit(picture: Image.Image, region: Region) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The picture as RGB at a legible size, with the region in its new pixels."""
    longest = max(picture.size)
    scale = min(max(longest, SIDES[0]), SIDES[1]) / longest
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    left, top, right, bottom = (round(edge * scale) for edge in region)
    return picture.convert("RGB").resize(size, resample), (left, top, right, bottom)
