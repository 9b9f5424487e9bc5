"""What explanations of restored pictures share: the task, its scale, and maps of pixels on a coarser grid."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import UserError
from vitrail.explain.maps import Heat
from vitrail.ops.attribution import summed_in_cells
from vitrail.tasks import Task
from vitrail.trainable import EncoderModule

CELLS = 96  # of a map along the longer side of a picture, at most
MOST = 1 << 20
"""Pixels of a picture that is restored as a whole here."""
WITH_GRADIENTS = 1 << 18
"""The same where gradients are computed."""


def makes_pictures(task: EncoderModule) -> bool:
    """Whether its outputs are pictures."""
    return isinstance(task, Task) and task.keeps_form


def require_small(images: Tensor, most: int = MOST) -> None:
    """Raises UserError: too many pixels to be seen as a whole."""
    height, width = images.shape[-2:]
    if height * width > most:
        side = math.isqrt(most)
        raise UserError(f"{width} × {height} pixels are too many for a map of them; cut out {side} × {side} or fewer")


def pixel_heat(title: str, pixels: Tensor, *, mean: bool = False, limits: tuple[float, float] | None = None) -> Heat:
    """A number for each pixel (H, W) as a map with at most :data:`CELLS` cells a side.

    Args:
        mean: of the pixels of a cell; else their sum.
    """
    cell = max(1, -(-max(pixels.shape) // CELLS))
    values = summed_in_cells(pixels, cell)
    if mean:
        values = values / summed_in_cells(torch.ones_like(pixels), cell)
    return Heat(title, values.detach().cpu().numpy().astype(np.float32), limits=limits)
