"""Gradient checkpointing, applied to a model from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Recompute each block's activations in the backward pass instead of storing them (Chen et al. 2016).

    Trades about one more forward pass for memory that no longer grows with depth. Names in the state dict stay.
    """
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """A frame of its own, which torch.compile can trace; it passes over that of ``checkpoint``."""
    return checkpoint(forward, *inputs, use_reentrant=False, **options)
