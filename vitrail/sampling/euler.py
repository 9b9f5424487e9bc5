"""The same image and noise as found, at the next time: Euler's method on straight paths, DDIM on all (Song et al.
2021, equation 12)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from vitrail.ops.diffusion import Path
from vitrail.sampling import Denoise, filled


def solve(denoise: Denoise, noise: Tensor, times: list[float], path: Path) -> Tensor:
    """One evaluation a step."""
    noisy = noise
    for now, then in pairwise(times):
        noisy = path.mix(*denoise(noisy, now), filled(noisy, then))
    return noisy
