"""Intervals that hold the true value with a given probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

LEVEL = 0.95


def wilson(share: float, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Of a probability of which a sample shows ``share`` in ``total`` draws (Wilson 1927), within 0 … 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def student(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Of the mean of a normal variable, from two or more draws of it: mean ± t · s / √n (Student 1908)."""
    from scipy.special import stdtrit

    mean, error = fmean(values), stdev(values) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return mean - half, mean + half
