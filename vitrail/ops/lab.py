"""Colours in CIE Lab (1976) under D65: L is lightness from 0 to 100, a and b are the colour itself.

sRGB is IEC 61966-2-1, from 0 to 1. Colours are float tensors (B, 3, …); gradients are not looked after.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)  # relative to white, so that greys have no colour at all
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_KNEE = 6 / 29  # where the cube root goes over into a line
# of the points of gamut(), for each a from -90 to 100
_LEAST_B = (50, 20, 0, -20, -30, -40, -50, -50, -60, -70, -80, -80, -90, -100, -100, -110, -110, -110, -110, -90)
_LARGEST_B = (90, 90, 90, 90, 100, 100, 100, 100, 100, 100, 90, 90, 90, 90, 80, 80, 80, 70, 70, 0)


def srgb_to_lab(colours: Tensor) -> Tensor:
    """sRGB → Lab; a and b lie between -108 and 99."""
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = _mixed(linear, _TO_XYZ)
    x, y, z = torch.where(xyz > _KNEE**3, xyz ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29).unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_srgb(lab: Tensor) -> Tensor:
    """Lab → sRGB; channels of colours that sRGB does not have are clipped."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    roots = torch.stack((y + a / 500, y, y - b / 200), dim=1)
    xyz = torch.where(roots > _KNEE, roots**3, 3 * _KNEE**2 * (roots - 4 / 29))
    linear = _mixed(xyz, _FROM_XYZ)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).clamp(0, 1)


def gamut() -> Tensor:
    """The 313 points of a grid of 10 on the ab plane among which sRGB lies, (313, 2) float32 on the CPU, by a, then b.

    Those of Zhang et al. 2016 (section 2.2), who count in the points just around the gamut.
    """
    rows = zip(range(-90, 101, 10), _LEAST_B, _LARGEST_B, strict=True)
    points = [(a, b) for a, low, high in rows for b in range(low, high + 1, 10)]
    return torch.tensor(points, dtype=torch.float32, device="cpu")


def _mixed(colours: Tensor, matrix: np.ndarray) -> Tensor:
    """A 3 × 3 matrix times each colour. Not as a matrix product: autocast would round that."""
    first, second, third = colours.unbind(1)
    return torch.stack([p * first + q * second + r * third for p, q, r in matrix.tolist()], dim=1)
