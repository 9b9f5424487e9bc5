"""DPM-Solver++ of second order in many steps (Lu et al. 2022, algorithm 2): images of two steps, by log(α/σ)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from vitrail.ops.diffusion import Path
from vitrail.sampling import Denoise, filled


def solve(denoise: Denoise, noise: Tensor, times: list[float], path: Path) -> Tensor:
    """One evaluation a step; the first and the last step are of first order."""
    noisy, before, last_h = noise, None, math.inf
    for now, then in pairwise(times):
        found = denoise(noisy, now)
        h = _half_log_snr(path, then) - _half_log_snr(path, now)
        image = found.image
        if before is not None and math.isfinite(h) and math.isfinite(last_h):
            image = image + (image - before) * (h / last_h / 2)
            at, target = filled(noisy, now), filled(noisy, then)
            ratio = (path.sigma(target) / path.sigma(at))[:, None, None, None]
            noisy = ratio * noisy - path.alpha(target)[:, None, None, None] * math.expm1(-h) * image
        else:
            noisy = path.mix(*found, filled(noisy, then))
        before, last_h = found.image, h
    return noisy


def _half_log_snr(path: Path, time: float) -> float:
    at = torch.tensor([time], dtype=torch.float64)
    alpha, sigma = float(path.alpha(at)), float(path.sigma(at))
    if alpha <= 0:
        return -math.inf
    return math.inf if sigma <= 1e-8 else math.log(alpha / sigma)
