"""Sizes and token grids."""

from __future__ import annotations

from typing import TypeAlias

Pair: TypeAlias = tuple[int, int]
"""(height, width)."""
Grid: TypeAlias = tuple[int, ...]
"""Tokens along each axis: (h, w) of an image, (t, h, w) of a clip."""


def as_pair(value: int | Pair) -> Pair:
    """(height, width) of a square's side or of both."""
    return (value, value) if isinstance(value, int) else value
