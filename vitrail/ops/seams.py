"""Seams between patches: how far the spectrum of pictures stands out at the frequencies of the grid of patches.

Pictures are (B, C, H, W); P pixels is a side of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spectrum(pictures: Tensor) -> Tensor:
    """The power at 0 … H/2 cycles a column and then at 0 … W/2 cycles a row, summed over channels and lines: float64
    (B, H // 2 + W // 2 + 2)."""
    values = pictures.double()
    columns, rows = torch.fft.rfft(values, dim=2), torch.fft.rfft(values, dim=3)
    return torch.cat((columns.abs().square().sum(dim=(1, 3)), rows.abs().square().sum(dim=(1, 2))), dim=1)


def fits(size: tuple[int, int], patch: int) -> bool:
    """Whether pictures of this (height, width) are a grid of at least 2 × 2 patches of 2 pixels or more."""
    return patch >= 2 and all(length % patch == 0 and length >= 2 * patch for length in size)


def grid_energy(spectra: Tensor, size: tuple[int, int], patch: int) -> float:
    """The mean power at the frequencies of the grid divided by that beside them: near 1 without seams.

    A step at every border of patches has all its power at multiples of H/P (or W/P) cycles. Each of these is divided by
    the geometric mean of its neighbours of the next lower and higher frequency; the mean over all and both directions.

    Args:
        spectra: what :func:`spectrum` gives of pictures of ``size`` (height, width), which :func:`fits`.
    """
    power = spectra.mean(dim=0).split([length // 2 + 1 for length in size])
    ratios = [
        ratio for each, length in zip(power, size, strict=True) for ratio in _ratios(each, length // patch, length)
    ]
    return sum(ratios) / len(ratios)


def _ratios(power: Tensor, spacing: int, length: int) -> list[float]:
    power = power + torch.finfo(power.dtype).eps * power.sum()  # pictures of one colour have no power beside the grid
    found = []
    for place in range(spacing, length // 2 + 1, spacing):
        higher = min(place + 1, length - place - 1)  # beyond half of the length the spectrum is its mirror image
        found.append(float(power[place] / (power[place - 1] * power[higher]).sqrt()))
    return found
