"""Boxes as decimals that are read again as the very same float32."""

from __future__ import annotations

import numpy as np


def decimals(values: np.ndarray) -> list[float]:
    """Each float32 as the shortest decimal that means it."""
    return [float(str(value)) for value in values]


def start_and_size(box_xyxy: np.ndarray) -> list[float]:
    """x, y, width, height of a box float32 (4,), such that the first two and the sums give its corners again."""
    left, top, right, bottom = decimals(box_xyxy)
    return [left, top, _length(left, right), _length(top, bottom)]


def _length(start: float, end: float) -> float:
    short = round(end - start, 4)
    return short if np.float32(start + short) == np.float32(end) else end - start
