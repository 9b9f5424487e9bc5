"""The attention of blocks as they compute it, in windows, under masks or with further tokens, seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident

from torch import Tensor, nn

from vitrail.nn.attend import Positions
from vitrail.nn.attention import Attention, AttentionPattern, Masked

Wrap = Callable[[int, AttentionPattern], AttentionPattern]
"""(layer, the pattern of its attention) → the pattern to run instead."""


@contextmanager
def wrapped(blocks: Mapping[int, nn.Module], wrap: Wrap) -> Iterator[None]:
    """While it lasts, the attention of each block, by its layer, is what ``wrap`` makes of it, in this thread; another
    one that runs the same blocks meanwhile is left alone."""
    thread = get_ident()

    def reroute(layer: int, block: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
        if get_ident() != thread:
            return inputs
        x, positions, *given = inputs
        return x, positions, wrap(layer, *given or (Masked(),))

    handles = [block.register_forward_pre_hook(partial(reroute, layer)) for layer, block in blocks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(blocks: Mapping[int, nn.Module]) -> Iterator[dict[int, Tensor]]:
    """While it lasts, the blocks compute attention by its matrix, which is kept by layer: B H T T, rows sum to 1."""
    found: dict[int, Tensor] = {}
    with wrapped(blocks, lambda layer, pattern: _Open(pattern, partial(found.__setitem__, layer))):
        yield found


@dataclass(frozen=True)
class _Open:
    """A pattern computed by its matrix."""

    pattern: AttentionPattern
    keep: Callable[[Tensor], None]

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        y, weights = module.openly(x, positions, self.mask(x))
        self.keep(weights)
        return y

    def mask(self, x: Tensor) -> Tensor | None:
        return self.pattern.mask(x)
