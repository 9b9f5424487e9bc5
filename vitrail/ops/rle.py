"""Masks as run lengths, as COCO stores them: down the columns, background first, in numbers or as text.

The text is that of the COCO API's maskApi: each count, from the fourth on less the one two before, in groups of five
bits from the lowest, each in a printable character whose sixth bit marks that more follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
_FIRST = 48  # the character "0" stands for five zero bits


def encode(mask: NDArray[np.bool_]) -> Counts:
    """bool (H, W) → the lengths of its runs; the first is 0 where the first pixel is set."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(changes, prepend=0, append=flat.size)
    return np.concatenate(([0], counts)) if flat[:1].any() else counts


def encode_placed(mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> Counts:
    """What :func:`encode` gives of a picture of ``size`` (H, W) that is background but for a part (h, w) of it.

    Args:
        corner: (top, left) of the part.
    """
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    runs = (np.nonzero(edges == step) for step in (1, -1))
    starts, ends = ((column + corner[1]) * size[0] + row + corner[0] for column, row in runs)
    places = np.stack((starts, ends), axis=1).ravel()
    joined = np.flatnonzero(places[1:] == places[:-1])  # a run goes on at the top of the next column
    places = np.delete(places, np.concatenate((joined, joined + 1)))
    counts = np.diff(places, prepend=0, append=size[0] * size[1])
    return counts[:-1] if len(counts) > 1 and not counts[-1] else counts


def decode(counts: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths → bool (H, W).

    Raises:
        ValueError: the runs are not as long as the picture has pixels.
    """
    height, width = size
    try:
        runs = np.asarray(counts, np.int64)
    except (OverflowError, TypeError):
        raise ValueError("runs that are no lengths") from None
    if runs.ndim != 1 or (runs < 0).any() or (runs > height * width).any():
        raise ValueError(f"runs that are no lengths for {height} × {width}")
    if runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum():,} pixels for {height} × {width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def to_text(counts: ArrayLike) -> str:
    """Run lengths as the COCO API's compressed text."""
    runs = np.asarray(counts, np.int64)
    text = bytearray()
    for value in np.concatenate((runs[:3], runs[3:] - runs[1:-2])).tolist():
        while True:
            group, value = value & 31, value >> 5
            done = value == (-1 if group & 16 else 0)
            text.append(_FIRST + (group if done else group | 32))
            if done:
                break
    return text.decode("ascii")


def compressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """bool (H, W) as COCO's ``segmentation``: ``size`` and ``counts``."""
    return {"size": list(mask.shape), "counts": to_text(encode(mask))}


def from_text(text: str) -> Counts:
    """The run lengths of a compressed text.

    Raises:
        ValueError: it is none.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        group = character - _FIRST
        if not 0 <= group < 64 or shift > 35:
            raise ValueError(f"{text[:20]!r} is no run-length text")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(f"{text[-20:]!r} ends within a number")
    if any(abs(count) >= 2**62 for count in counts[-2:]):
        raise ValueError("runs that are no lengths")
    return np.array(counts, np.int64)
