"""From pixels of 8 bits as they are stored to as many channels as are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vitrail.data.media.limits import Broken
from vitrail.data.media.samples import BANDS

if TYPE_CHECKING:
    from torch import Tensor

Color = tuple[int, int, int]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
STRIP = 2**18  # pixels that are converted at a time


def to_channels(opened: Image.Image | np.ndarray, channels: int, background: Color) -> Image.Image | Tensor:
    """An opened image, or pixels uint8 (H, W, C), with the wanted number of channels, as ``decode`` gives them.

    Raises:
        Broken: it has others.
    """
    stored = opened.shape[2] if isinstance(opened, np.ndarray) else len(opened.getbands())
    if isinstance(opened, np.ndarray) and stored == channels == 4:
        return four_bands(opened)
    if isinstance(opened, Image.Image) and opened.mode == BANDS:
        if channels != 4:
            raise Broken(
                f"has 4 bands, of which nothing says that the last is transparency, where {channels} are wanted; "
                "choose --channels 4, or leave a band out"
            )
        return opened
    if isinstance(opened, np.ndarray) and (stored not in MODES or channels not in MODES) and stored == channels:
        import torch

        return torch.from_numpy(np.array(opened.transpose(2, 0, 1), order="C"))
    if channels not in MODES or (isinstance(opened, np.ndarray) and stored not in MODES):
        raise Broken(f"has {stored} channels, where {channels} are wanted; choose --channels {stored}")
    image = Image.fromarray(opened.squeeze(2) if stored == 1 else opened) if isinstance(opened, np.ndarray) else opened
    mode = MODES[channels]
    if mode != "RGBA" and image.has_transparency_data:
        image = in_strips(image, lambda part: _composite(part.convert("RGBA"), background), "RGB")
    if image.mode == "LAB":  # which Pillow converts to RGB alone
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def four_bands(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, 4) as an image that Pillow resizes band by band, with no regard to transparency."""
    height, width = pixels.shape[:2]
    return Image.frombuffer(BANDS, (width, height), np.ascontiguousarray(pixels).tobytes())


def _composite(image: Image.Image, background: Color) -> Image.Image:
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return canvas


def in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    """What a conversion to ``mode`` gives, with no more in memory than the image, the result and a strip."""
    if image.width * image.height <= STRIP:
        return convert(image)
    result = Image.new(mode, image.size)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(convert(image.crop(box)), box)
    return result
