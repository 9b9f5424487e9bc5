"""Random numbers that depend on what they are for, never on who draws them or when.

Every sample has a 64-bit key made of (seed, epoch, index, repeat). Batch operations draw by hashing the key
with a counter, so parameters are per sample and their application is vectorised; per-sample operations of torchvision
draw from torch's generator, seeded with the key and put back afterwards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Keys: TypeAlias = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys(seed: int, *parts: ArrayLike | str) -> Keys:
    """Keys of shape (B,): the hash of the seed with each part in turn (integers, arrays (B,) of them, or words)."""
    state = _hash(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = _hash(state + _GOLDEN * (np.atleast_1d(number).astype(np.uint64) + np.uint64(1)))
    return state


def salted(keys: Keys, stream: str) -> Keys:
    """Other keys, a function of these and of the stream's name."""
    return _hash(keys ^ np.uint64(zlib.crc32(stream.encode())))


def key(seed: int, *parts: int | str) -> int:
    """One key as a Python integer."""
    return int(keys(seed, *parts)[0])


def uniform(keys: Keys, stream: str, num: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) of shape (B, num): row b depends on ``keys[b]`` and the stream's name alone."""
    counters = np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN
    bits = _hash(salted(keys, stream)[:, None] + counters)
    numbers: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def permutation(num: int, key: int) -> NDArray[np.int64]:
    """A random order of 0 … num - 1."""
    return np.argsort(keys(key, np.arange(num)), kind="stable")


@contextmanager
def torch_seeded(key: int) -> Iterator[None]:
    """Within, torch's CPU generator starts from ``key``; afterwards it is as it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(key & 0x7FFFFFFFFFFFFFFF)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def _hash(x: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), element by element."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
