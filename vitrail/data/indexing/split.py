"""Which samples of a training set are held out for validation, and which share of it is learned from."""

from __future__ import annotations

import numpy as np


def stratified(strata: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out), each sorted, with ``fraction`` of every class held out.

    A class of two or more samples gives at least one and keeps at least one; a class of one keeps it.

    Args:
        strata: each sample's class, int64 (N,); zeros where samples have none, which splits them at random.
    """
    order, rank, counts = _shuffled(strata, seed)
    num_held = np.clip(np.round(counts * fraction).astype(np.int64), 1, np.maximum(counts - 1, 0))
    held = rank < np.repeat(num_held, counts)
    return np.sort(order[~held]), np.sort(order[held])


def share(strata: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Sorted indices of ``fraction`` of every class, at least one of each; larger fractions hold the smaller ones."""
    order, rank, counts = _shuffled(strata, seed)
    num_kept = np.maximum(np.round(counts * fraction).astype(np.int64), 1)
    return np.sort(order[rank < np.repeat(num_kept, counts)])


def folds(strata: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The fold of each sample, int64 (N,) from 0 on: sizes differ by one at most, and so do those of a class."""
    order, _, _ = _shuffled(strata, seed)
    found = np.empty(len(strata), np.int64)
    found[order] = np.arange(len(strata)) % number
    return found


def _shuffled(strata: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples class by class in random order, the place of each in its class, and the sizes of the classes."""
    keys = np.random.Philox(key=seed).random_raw(len(strata))  # the raw stream never changes between NumPys
    counts = np.bincount(strata)
    starts = np.cumsum(counts) - counts
    return np.lexsort((keys, strata)), np.arange(len(strata)) - np.repeat(starts, counts), counts
