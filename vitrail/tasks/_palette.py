"""Drawing classes on pictures: one colour a class, boxes with a name tag, transparent regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Okabe & Ito's eight without black and grey, told apart by the colour-blind too, then lighter and darker ones.
_BASE: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
SHOWN_AT_LEAST = 320  # pixels of the longer side


def colour(label: int) -> Colour:
    """A class's colour; after seven they come again, lighter and darker by turns."""
    base, turn = _BASE[label % len(_BASE)], label // len(_BASE) % 3
    if turn == 0:
        return base
    towards = 255 if turn == 1 else 0
    red, green, blue = (round(0.55 * part + 0.45 * towards) for part in base)
    return red, green, blue


class Canvas:
    """A copy of an image to draw on, enlarged by whole factors if it is too small for text."""

    def __init__(self, image: Image.Image) -> None:
        self.scale = max(1, -(-SHOWN_AT_LEAST // max(image.size)))
        size = (image.width * self.scale, image.height * self.scale)
        self.image = image.convert("RGB").resize(size, Image.Resampling.NEAREST)
        self.line = max(2, round(max(size) / 300))
        self.font = ImageFont.load_default(max(11, round(max(size) / 40)))

    def box(self, box_xyxy: Any, colour: Colour, text: str) -> None:
        """A frame in pixels of the image given, with a tag above it, or inside where there is no room."""
        pen = ImageDraw.Draw(self.image)
        left, top, right, bottom = (float(side) * self.scale for side in box_xyxy)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        pen.rounded_rectangle((left, top, right, bottom), self.line * 2, outline=colour, width=self.line)
        x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=self.font)
        margin = self.line + 1
        width, height = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
        x = min(max(left, 0), max(self.image.width - width, 0))
        y = top - height if top >= height else top
        pen.rounded_rectangle((x, y, x + width, y + height), self.line, fill=colour)
        pen.text((x + margin - x0, y + margin - y0), text, fill=readable_on(colour), font=self.font)

    def region(self, mask: NDArray[np.bool_], colour: Colour, strength: float = 0.45) -> None:
        """Tint where ``mask`` (h, w) of the image given is true, and line its border."""
        whole = np.kron(mask, np.ones((self.scale, self.scale), dtype=bool))
        pixels = np.array(self.image)
        pixels[whole] = (pixels[whole] * (1 - strength) + np.array(colour) * strength).round().astype(np.uint8)
        pixels[whole & ~_inner(whole, self.line)] = colour
        self.image = Image.fromarray(pixels)


def readable_on(colour: Colour) -> Colour:
    """Black or white text, by the luminance of what it stands on."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _inner(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The mask without a border of ``width`` pixels."""
    kept = mask
    for _ in range(width):
        padded = np.pad(kept, 1)
        kept = kept & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return kept
