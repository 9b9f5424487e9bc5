"""Schedules as pure functions of a training's progress (0 … 1)."""

from __future__ import annotations

import math


def cosine(start: float, end: float, progress: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def warmed_up(start: float, end: float, share: float, progress: float) -> float:
    """Linearly from ``start`` to ``end`` over the first ``share`` of the training, then constant."""
    return end if progress >= share else start + (end - start) * progress / share
