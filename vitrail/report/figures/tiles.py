"""Pictures with captions, in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrail.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


GAP, CAPTION = 0.07, 0.3  # inches between pictures, and below each


@dataclass(frozen=True)
class Tile:
    """An image with its caption.

    Attributes:
        right: colours the title.
        name: of the image's file, or its place in the data.
        href: where that file lies, from the page.
        alt: what it shows, for who cannot see it; default: title, note and name.
    """

    image: Image.Image
    title: str
    note: str = ""
    right: bool | None = None
    name: str = ""
    href: str = ""
    alt: str = ""


@style.styled
def sheet(tiles: Sequence[Tile], heading: str, columns: int = 6) -> Figure:
    """The tiles row by row, as one figure for the folder."""
    from matplotlib.figure import Figure

    cell = style.WIDTH / columns  # inches, as everything below
    picture = (cell - GAP) * max(tile.image.height / tile.image.width for tile in tiles)
    step, top = picture + CAPTION, 0.3
    height = top + step * -(-len(tiles) // columns)
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(GAP / 2, 0.06, heading, va="top", fontsize=10.5, fontweight="bold")
    for place, tile in enumerate(tiles):
        left, upper = place % columns * cell + GAP / 2, top + place // columns * step
        size = (cell - GAP) / tile.image.width
        extent = (left, left + cell - GAP, upper + size * tile.image.height, upper)
        smooth = "nearest" if max(tile.image.size) < 64 else "antialiased"
        axes.imshow(tile.image, extent=extent, cmap="gray", interpolation=smooth, vmin=0, vmax=255)
        colour = {True: style.GREEN, False: style.ORANGE, None: style.INK}[tile.right]
        letters = int(cell * 19)
        for line, (text, ink) in enumerate(((tile.title, colour), (tile.note, style.MUTED))):
            axes.text(
                left,
                upper + picture + 0.03 + 0.105 * line,
                style.short(text, letters),
                color=ink,
                va="top",
                fontsize=6.2,
            )
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    return figure
