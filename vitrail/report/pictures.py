"""Pictures for the report: samples from a source, and tensors turned back into what people see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.data.source import Source
    from vitrail.data.transforms.preprocess import PreprocessConfig

LONGEST = 224  # pixels of a thumbnail's longer side


def sample(source: Source, index: int, channels: int) -> Image.Image:
    """The picture at ``index`` as the source stores it, at thumbnail size.

    Raises:
        BadImage: it cannot be read.
    """
    from vitrail.data.images.decode import decode

    decoded = decode(source.read(index), channels)
    image = decoded if isinstance(decoded, Image.Image) else from_planes(decoded.numpy())
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


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
