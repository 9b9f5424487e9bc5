"""Random numbers of the samples of a batch: they depend on each sample's key alone.

Neither the batch nor the rank that a sample is in changes them, so several processes learn what one learns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitrail.data import keyed_random
from vitrail.ops.diffusion import normal as to_normal


def uniform(keys: Tensor, stream: str, num: int, like: Tensor) -> Tensor:
    """Numbers in [0, 1), (B, num) float32.

    Args:
        keys: int64 (B,) on the CPU, such as ``batch["keys"]``.
        stream: other names give other numbers.
        like: on the device of the result.
    """
    numbers = torch.from_numpy(keyed_random.uniform(keys.numpy().view(np.uint64), stream, num)).float()
    return numbers.clamp_(max=1 - 2**-24).to(like.device, non_blocking=True)  # rounding could make 1


def normal(keys: Tensor, stream: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Normal numbers, (B, *shape) float32; arguments as of :func:`uniform`."""
    num = int(np.prod(shape))
    return to_normal(uniform(keys, stream, num, like)).unflatten(1, shape)
