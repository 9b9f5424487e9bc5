"""How close a picture is to another one: PSNR and SSIM, and the luma that publications measure.

Shapes: (C, H, W) or (H, W), values from 0 to 255.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

IDENTICAL = 100.0
"""PSNR, in dB, of equal pictures, which have none."""
STUDIO = (65.481, 128.553, 24.966)
"""Shares of red, green and blue in BT.601's luma from 16 to 235."""
SIGMA, RADIUS = 1.5, 5  # of SSIM's window, as published


def luma(picture: Tensor) -> Tensor:
    """RGB (3, H, W) → Y of BT.601 in studio range, 16 to 235, not rounded: float64 (H, W)."""
    shares = torch.tensor(STUDIO, dtype=torch.float64, device=picture.device)
    return torch.einsum("c,chw->hw", shares, picture.double()) / 255 + 16


def is_grey(picture: Tensor) -> bool:
    """Whether all channels are equal."""
    return bool((picture == picture[:1]).all())


def cropped(picture: Tensor, border: int) -> Tensor:
    """Without so many pixels at each edge, where that leaves any."""
    height, width = picture.shape[-2:]
    if border == 0 or min(height, width) <= 2 * border:
        return picture
    return picture[..., border : height - border, border : width - border]


def psnr(picture: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, of all channels together."""
    error = float((picture.double() - truth.double()).square().mean())
    return IDENTICAL if error == 0 else min(10 * math.log10(255**2 / error), IDENTICAL)


def ssim(picture: Tensor, truth: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), the mean over channels and pixels, with Gaussian windows of 11 × 11
    pixels and mirrored edges, as torchmetrics computes it; NaN of pictures with a side of 5 pixels or less."""
    one, other = (each.double().reshape(-1, 1, *each.shape[-2:]) for each in (picture, truth))
    if min(one.shape[-2:]) <= RADIUS:
        return float("nan")
    one, other = (F.pad(each, (RADIUS,) * 4, mode="reflect") for each in (one, other))
    first, second, of_squares, of_others, product = _windowed(
        torch.cat((one, other, one.square(), other.square(), one * other))
    ).chunk(5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    variances = of_squares - first.square() + of_others - second.square()
    covariance = product - first * second
    means = (2 * first * second + c1) / (first.square() + second.square() + c1)
    return float((means * (2 * covariance + c2) / (variances + c2)).mean())


def _windowed(values: Tensor) -> Tensor:
    """Gaussian means of (N, 1, H, W) where the window fits."""
    distance = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64, device=values.device)
    weights = (-distance.square() / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(values, weights[None, None, :, None]), weights[None, None, None, :])
