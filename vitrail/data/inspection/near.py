"""Pictures that look the same, told by small greys of them: copies of another size, format or quality, or mirrored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ALIKE = 0.996  # correlation of two thumbnails
_FLAT = 6.0  # levels of grey by which a picture must vary to be compared
_SHIFT = 16.0  # levels of grey that the means may be apart
_AT_ONCE = 2048
_MOST = 4 * 10**9  # pairs that are compared


def near_pairs(train: np.ndarray, other: np.ndarray) -> Iterator[tuple[int, int]]:
    """(row of ``train``, row of ``other``) of each picture of ``other`` that looks like one of ``train``, the most
    similar one.

    Args:
        train, other: thumbnails uint8 (N, T, T) and (M, T, T).
    """
    if len(train) * len(other) > _MOST or not len(train):
        return
    reference, means, varied = _normalised(train)
    own, own_means, own_varied = _normalised(other)
    mirrored = _normalised(other[:, :, ::-1])[0]
    for start in range(0, len(other), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        similar = np.maximum(own[rows] @ reference.T, mirrored[rows] @ reference.T)
        similar[~own_varied[rows]] = 0
        similar[:, ~varied] = 0
        similar[np.abs(own_means[rows, None] - means) > _SHIFT] = 0
        best = similar.argmax(axis=1)
        for place in np.flatnonzero(similar[np.arange(len(best)), best] >= ALIKE).tolist():
            yield int(best[place]), start + place


def _normalised(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(unit vectors without their mean, means, whether they vary)."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    means = flat.mean(axis=1)
    flat = flat - means[:, None]
    lengths = np.linalg.norm(flat, axis=1)
    return flat / np.maximum(lengths, 1e-6)[:, None], means, lengths > _FLAT * np.sqrt(flat.shape[1])
