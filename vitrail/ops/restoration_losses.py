"""Losses between restored and true pictures, (B, C, H, W) with values around 0 to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER = 1e-3  # below this error it is a parabola


def pixel_loss(kind: str, pictures: Tensor, truth: Tensor) -> Tensor:
    """``l1``, ``mse``, or ``charbonnier``, √(error² + ε²) (Charbonnier et al. 1994), the mean over all values."""
    if kind == "l1":
        return F.l1_loss(pictures, truth)
    if kind == "mse":
        return F.mse_loss(pictures, truth)
    return ((pictures - truth).square() + CHARBONNIER**2).sqrt().mean()


def fourier_loss(pictures: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the two-dimensional spectra, which counts fine detail as much as flat areas (Cho et
    al. 2021, MIMO-UNet, equation 3)."""
    return torch.view_as_real(torch.fft.rfft2(pictures - truth, norm="ortho")).abs().mean()
