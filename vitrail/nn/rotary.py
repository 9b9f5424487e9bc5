"""Rotary positions of an encoder: what the angles are made of, and angles that are learned.

Shapes: L layers, H heads of width d, N patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import Size, config
from vitrail.nn.init import Initialised
from vitrail.ops.grid import Pair
from vitrail.ops.rope import Coordinates, Rotation, places
from vitrail.ops.tables import kept


@config
class RotaryConfig:
    """By what queries and keys turn; see :func:`vitrail.ops.rope.rope_2d`.

    Args:
        theta: the slowest pair of channels turns almost this many times less than the fastest.
        coordinates: ``index`` counts patches; ``centred`` goes from −1 to 1 across any image (Siméoni et al. 2025,
            DINOv3).
        offset: added to an index (Bolya et al. 2025, Perception Encoder).
        reference: the grid, (rows, columns), that indices are scaled to (Fang et al. 2023, EVA-02).
        mixed: every pair of channels turns with row and column, by frequencies that each head of each layer learns
            (Heo et al. 2024, RoPE-Mixed); ``theta`` is that of their initial values.
    """

    theta: Annotated[float, Field(gt=0)] = 100.0
    coordinates: Coordinates = "index"
    offset: float = 0.0
    reference: Size | None = None
    mixed: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> RotaryConfig:
        if self.coordinates == "centred" and (self.offset or self.reference):
            raise ValueError("offset and reference are of coordinates=index; leave them out")
        if self.mixed and (self.coordinates != "index" or self.offset or self.reference):
            raise ValueError("mixed rotary positions count patches; leave coordinates, offset and reference out")
        return self


@dataclass(frozen=True)
class LayerRotations:
    """Rotations that differ from layer to layer; each is computed when its layer is reached.

    Attributes:
        frequencies: (2, L, H, d/2), those of the column first.
        places: (2, N), or (2, B, 1, N) where they differ from image to image: columns, then rows, in float32.
    """

    frequencies: Tensor
    places: Tensor

    def at(self, layer: int) -> Rotation:
        """(cos, sin) of one layer, each (H, N, d/2) or (B, H, N, d/2), in float32."""
        of_x, of_y = self.frequencies[:, layer, :, None].float().unbind()
        x, y = self.places[..., None].unbind()
        angle = x * of_x + y * of_y
        return angle.cos(), angle.sin()


def of_patches(rotation: Rotation | LayerRotations, kept: Tensor) -> Rotation | LayerRotations:
    """The same for some patches of each image: those of the indices B K."""
    if isinstance(rotation, LayerRotations):
        return replace(rotation, places=rotation.places[:, kept].unsqueeze(2))
    cos, sin = (table[kept].unsqueeze(1) for table in rotation)
    return cos, sin


class MixedRotary(Initialised):
    """Learned frequencies for all layers and heads."""

    def __init__(self, depth: int, heads: int, head_dim: int, theta: float) -> None:
        super().__init__()
        self.theta = theta
        self.frequencies = nn.Parameter(torch.empty(2, depth, heads, head_dim // 2))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Axial frequencies, turned in each head by a random angle."""
        _, depth, heads, pairs = self.frequencies.shape
        size = self.theta ** (-torch.arange(0, 2 * pairs, 4, device=self.frequencies.device) / (2 * pairs))
        turn = 2 * math.pi * torch.rand(depth, heads, 1, device=self.frequencies.device)
        self.frequencies[0] = torch.cat((size * turn.cos(), size * -turn.sin()), dim=-1)
        self.frequencies[1] = torch.cat((size * turn.sin(), size * turn.cos()), dim=-1)

    def forward(self, grid: Pair) -> LayerRotations:
        """The rotations on any grid."""
        return LayerRotations(self.frequencies, kept(_places, self.frequencies.device, grid))


def _places(grid: Pair) -> Tensor:
    return places(grid).float()
