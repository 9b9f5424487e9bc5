"""Boxes, masks and class maps drawn on their image: annotations and predictions alike."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from vitrail import fonts
from vitrail.console import printable
from vitrail.ops.segmentation_losses import IGNORE

Colour: TypeAlias = tuple[int, int, int]

SMALLEST = 384  # pixels of the longer side; a smaller picture is enlarged, for names to be read
SHADE = 0.45  # how much of a mask's colour covers the picture
_GOLDEN = (5**0.5 - 1) / 2  # steps of this share of the circle never come near a hue again


def colour(label: int) -> Colour:
    """The colour of a class: neighbours differ in hue and in lightness."""
    hue, lightness = (0.58 + _GOLDEN * label) % 1, (0.52, 0.66, 0.58)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_objects(
    image: Image.Image,
    boxes_xyxy: ArrayLike,
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    scores: Sequence[float | None] | None = None,
    masks: np.ndarray | None = None,
    ignored: Sequence[bool] | None = None,
    colours: Sequence[Colour] | None = None,
) -> Image.Image:
    """A copy of the picture with its objects.

    Args:
        boxes_xyxy: (N, 4), in the picture's pixels.
        labels: places in ``classes``.
        scores: printed after the names, where there are any.
        masks: bool (N, H, W).
        ignored: crowds and difficult objects; their boxes are drawn thinly.
        colours: of each object; default: that of its class.
    """
    canvas, scale = _enlarged(image)
    colours = [colour(int(label)) for label in labels] if colours is None else colours
    if masks is not None and len(masks):
        canvas = _shaded(canvas, [_resized(mask, canvas) for mask in np.asarray(masks)], colours)
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) * scale
    line = max(2, round(max(canvas.size) / 250))
    names = [printable(classes[int(label)]) for label in labels]
    font = fonts.pillow(max(12, round(max(canvas.size) / 42)), "".join(names))
    pen = ImageDraw.Draw(canvas)
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")  # small ones on top
    for i in order:
        thin = ignored is not None and bool(ignored[i])
        left, top, right, bottom = boxes[i]
        pen.rectangle(
            (left, top, max(left, right - 1), max(top, bottom - 1)), outline=colours[i], width=1 if thin else line
        )
    for i in order:
        text = names[i] + _percent(scores[i] if scores is not None else None)
        _tag(pen, text, boxes[i], colours[i], font, canvas.size)
    return canvas


def draw_map(image: Image.Image, classes_at: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """A copy of the picture under its class map (H, W), with the names of the classes below; class 0 stays clear."""
    canvas, _ = _enlarged(image)
    present = [int(label) for label in np.unique(classes_at) if 0 < label < IGNORE]
    shades = [_resized(classes_at == label, canvas) for label in present]
    canvas = _shaded(canvas, shades, [colour(label) for label in present])
    size = max(12, canvas.width // 30)
    names = [printable(classes[label]) if label < len(classes) else str(label) for label in present]
    font, step = fonts.pillow(size, "".join(names)), round(size * 1.5)
    entries, left, row = [], step // 2, 0
    for label, name in zip(present, names, strict=True):
        width = round(font.getlength(name)) + 2 * size
        if left > step // 2 and left + width > canvas.width:
            left, row = step // 2, row + 1
        entries.append((left, row, label, name))
        left += width
    whole = Image.new("RGB", (canvas.width, canvas.height + (step * (row + 1) + size // 2 if present else 0)), "white")
    whole.paste(canvas, (0, 0))
    pen = ImageDraw.Draw(whole)
    for left, row, label, name in entries:
        top = canvas.height + size // 2 + row * step
        pen.rectangle((left, top, left + size * 0.7, top + size * 0.7), fill=colour(label))
        pen.text((left + size, top + size * 0.35), name, fill=(27, 31, 36), font=font, anchor="lm")
    return whole


def indexed(numbers: np.ndarray, first: int = 0) -> Image.Image:
    """Numbers uint8 (H, W) as a picture of mode P with these very numbers, coloured as the classes are.

    Args:
        first: the number of class 0.
    """
    picture = Image.fromarray(numbers)
    picture.putpalette([part for number in range(256) for part in colour(number - first)])  # whole, or bits are saved
    return picture


def _enlarged(image: Image.Image) -> tuple[Image.Image, float]:
    """A colour copy that is large enough, and how many times larger it is."""
    scale = max(1, -(-SMALLEST // max(image.size)))
    size = (image.width * scale, image.height * scale)
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST), scale


def _resized(mask: np.ndarray, canvas: Image.Image) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(canvas.size, Image.Resampling.NEAREST))


def _shaded(canvas: Image.Image, masks: Sequence[np.ndarray], colours: Sequence[Colour]) -> Image.Image:
    """The masks in their colours, each with its border in full."""
    pixels = np.array(canvas, np.float32)
    for mask, shade in zip(masks, colours, strict=True):
        pixels[mask] += SHADE * (np.array(shade) - pixels[mask])
    for mask, shade in zip(masks, colours, strict=True):
        inner = np.pad(mask, 1)
        inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        pixels[mask & ~inner] = shade
    return Image.fromarray(pixels.round().astype(np.uint8))


def _percent(score: float | None) -> str:
    return "" if score is None else f" {score:.0%}"


def _tag(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: np.ndarray,
    fill: Colour,
    font: Any,
    size: tuple[int, int],
) -> None:
    """The name on a plate of the box's colour: above the box, or in it where there is no room above."""
    width, height = round(font.getlength(text)) + 6, sum(font.getmetrics()) + 2
    x = max(0, min(box[0], size[0] - width))
    y = box[1] - height if box[1] >= height else min(max(box[1], 0), size[1] - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=fill)
    red, green, blue = fill
    dark = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    pen.text((x + 3, y + 1), text, fill=(20, 20, 24) if dark else (255, 255, 255), font=font)
