"""DINOv3 (Siméoni et al. 2025), whoever wrote the file: what its tensors do not show."""

from __future__ import annotations

from typing import Any

from vitrail.checkpoints.shapes import usual_heads
from vitrail.nn.rotary import RotaryConfig
from vitrail.vit_config import ViTConfig

EPS = 1e-5
THETA = 100.0
_HEADS = {1280: 20, 4096: 32}


def heads(dim: int) -> int:
    """Of the published model of this width."""
    return _HEADS.get(dim) or usual_heads(dim)


def positions(theta: float = THETA) -> dict[str, Any]:
    """Fields of :class:`ViTConfig`."""
    return {"positions": "rope_2d", "rotary": {"theta": theta, "coordinates": "centred"}}


def is_its(vit: ViTConfig) -> bool:
    """Are the positions of this kind, and of no other beside?"""
    rotary = vit.rotary or RotaryConfig()
    return vit.positions == "rope_2d" and rotary.coordinates == "centred"
