"""Fixed position embeddings, and how learned ones move to another grid."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair

Resampling = Literal[
    "bicubic_antialias",
    "bicubic",
    "bicubic_corners",
    "bicubic_offset",
    "bilinear",
    "bilinear_antialias",
    "bilinear_corners",
    "bilinear_crop",
]
"""How positions are resampled: timm and DeiT use ``bicubic_antialias``, Hugging Face ``bicubic``, torchvision
``bicubic_corners``, Google's code ``bilinear_corners`` (corners: ``align_corners=True``), Meta's DINO, and DINOv2
without registers, ``bicubic_offset`` (coordinates scaled by (new + 0.1) / old instead of new / old), RADIO
``bilinear_crop`` (both sides by the ratio of the longer ones, of which the upper left part is taken)."""
OFFSET = 0.1


def sincos_1d(length: int, dim: int, temperature: float = 10_000.0) -> Tensor:
    """Sinusoidal positions of the Transformer (Vaswani et al. 2017, section 3.5): (length, dim).

    Even channels are sin(t / temperature^(2i/dim)), odd ones the cosine.
    """
    frequency = temperature ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


def sincos_2d(grid: Pair, dim: int, temperature: float = 10_000.0, last: bool = True) -> Tensor:
    """Two-dimensional sinusoidal positions: (h·w, dim), channels [sin x, cos x, sin y, cos y].

    As in the plain ViT-S/16 baseline (Beyer et al. 2022): frequencies from 1 to 1/temperature.

    Args:
        last: whether 1/temperature is one of them; it is not in MAE (He et al. 2022) and DiT.
    """
    assert dim % 4 == 0
    count = dim // 4
    exponents = torch.arange(count, dtype=torch.float64) / max(count - last, 1)
    frequency = temperature**-exponents
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    x_angle, y_angle = x.reshape(-1, 1) * frequency, y.reshape(-1, 1) * frequency
    return torch.cat((x_angle.sin(), x_angle.cos(), y_angle.sin(), y_angle.cos()), dim=1).float()


def resample(positions: Tensor, old: Pair, new: Pair, rule: Resampling = "bicubic_antialias") -> Tensor:
    """Learned positions (L, h·w, D) on grid ``old`` → (L, h'·w', D) on grid ``new``, computed in float32."""
    if old == new:
        return positions
    mode, _, variant = rule.partition("_")
    if variant == "crop":
        before, side = max(old), max(new)
        grid = positions.unflatten(1, old).permute(0, 3, 1, 2)
        whole = F.pad(grid, (0, before - old[1], 0, before - old[0]), mode="replicate").flatten(2).mT
        square = resample(whole, (before, before), (side, side), "bilinear").unflatten(1, (side, side))
        return square[:, : new[0], : new[1]].flatten(1, 2)
    scale = [(n + OFFSET) / m for n, m in zip(new, old, strict=True)]
    resized = F.interpolate(
        positions.float().unflatten(1, old).permute(0, 3, 1, 2),
        **({"scale_factor": scale} if variant == "offset" else {"size": new}),
        mode=mode,
        align_corners=variant == "corners",
        antialias=variant == "antialias",
    )
    return resized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
