"""Pictures for the report: samples from a source, and tensors turned back into displayable images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.data.source import Source
    from vitrail.data.transforms.preprocess import PreprocessConfig

LONGEST = 224  # pixels of a thumbnail's longer side
GAP = 6  # pixels between the panels of a strip


def sample(source: Source, index: int, config: PreprocessConfig) -> Image.Image:
    """The picture at ``index`` as the source stores it, at thumbnail size.

    Raises:
        BadImage: it cannot be read.
    """
    image = whole(source, index, config)
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def whole(source: Source, index: int, config: PreprocessConfig) -> Image.Image:
    """The same at its own size."""
    from vitrail.data.media.decode import decode
    from vitrail.data.media.samples import viewable

    decoded = decode(source.read(index), config.channels, reading=config.reading)
    return viewable(decoded) if isinstance(decoded, Image.Image) else from_planes(decoded.numpy())


def denormalised(images: Tensor, preprocess: PreprocessConfig) -> list[Image.Image]:
    """A batch (B, C, H, W) after preprocessing, back to pictures."""
    import torch

    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = ((images.cpu() * std + mean) / preprocess.rescale).round().clamp(0, 255).to(torch.uint8)
    return [from_planes(planes) for planes in pixels.numpy()]


def from_planes(planes: np.ndarray) -> Image.Image:
    """A uint8 (C, H, W) array as a picture; of a multispectral image the first three channels."""
    if len(planes) in (1, 2):
        return Image.fromarray(planes[0])
    return Image.fromarray(np.ascontiguousarray(planes[: 4 if len(planes) == 4 else 3].transpose(1, 2, 0)))


def beside(panels: Sequence[Image.Image], height: int) -> Image.Image:
    """The panels in a row at a common height; small pictures keep hard edges."""
    smooth = Image.Resampling.NEAREST if max(panels[0].size) < 64 else Image.Resampling.BICUBIC
    scaled = [panel.resize((round(panel.width * height / panel.height), height), smooth) for panel in panels]
    canvas = Image.new("RGB", (sum(panel.width + GAP for panel in scaled) - GAP, height), "white")
    left = 0
    for panel in scaled:
        canvas.paste(panel, (left, 0))
        left += panel.width + GAP
    return canvas


def below(bands: Sequence[Image.Image]) -> Image.Image:
    """The bands on top of each other, flush left."""
    canvas = Image.new(
        "RGB", (max(band.width for band in bands), sum(band.height + GAP for band in bands) - GAP), "white"
    )
    top = 0
    for band in bands:
        canvas.paste(band, (0, top))
        top += band.height + GAP
    return canvas
