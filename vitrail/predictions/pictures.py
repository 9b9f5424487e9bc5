"""How predictions are drawn: a caption below an image, and PNGs for notebooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from vitrail import fonts

INK, FAINT, PAPER = (255, 255, 255), (178, 178, 186), (24, 24, 27)
MIN_WIDTH = 224  # of a captioned image, so that its text can be read
SMALLEST = 64  # pixels across, on a sheet


def draw_caption(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """A copy of the image with a band of text below it."""
    image = image.convert("RGB")
    width = max(image.width, MIN_WIDTH)
    if image.width < width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.NEAREST)
    size = max(width // 22, 12)
    font = fonts.pillow(size, "".join(lines))
    step = round(size * 1.35)
    canvas = Image.new("RGB", (image.width, image.height + step * len(lines) + size // 2), PAPER)
    canvas.paste(image, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        pen.text((size // 2, image.height + size // 5 + step * row), line, fill=FAINT if row else INK, font=font)
    return canvas


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def contact_sheet(images: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Pictures of one size row by row; small ones are enlarged, pixel by pixel."""
    first = images[0]
    scale = max(1, SMALLEST // first.width)
    width, height = first.width * scale, first.height * scale
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    canvas = Image.new(
        "RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), FAINT
    )  # beside dark pictures
    for number, image in enumerate(images):
        place = (number % columns * (width + gap), number // columns * (height + gap))
        canvas.paste(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST), place)
    return canvas


def card(lines: Sequence[str]) -> bytes:
    """Lines of text as a PNG."""
    return png(draw_caption(Image.new("RGB", (MIN_WIDTH, 1), PAPER), lines))


def blank(draw: Callable[[Image.Image], Image.Image], size: tuple[int, int]) -> bytes:
    """A PNG of what ``draw`` makes of an empty canvas of (height, width)."""
    return png(draw(Image.new("RGB", (size[1], size[0]), PAPER)))
