"""Tensors that depend on sizes alone, such as rotations: made once, and kept on the device where they are used."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", Tensor, tuple[Tensor, ...], tuple[Tensor, Tensor])
MOST = 64  # tables; the oldest goes first


def kept(build: Callable[..., T], device: torch.device, *sizes: Hashable) -> T:
    """``build(*sizes)``, a tensor or several, on the device. It is made on the CPU in the first call, so that no later
    one computes it again or makes the host wait for a GPU. Nobody may change it.

    Graphs that are traced get their own, whose sizes may be symbols.
    """
    make = _made if torch.compiler.is_compiling() else _kept
    found: T = make(build, device, *sizes)
    return found


def _made(build: Callable[..., Any], device: torch.device, *sizes: Hashable) -> Any:
    made = build(*sizes)
    return made.to(device) if isinstance(made, Tensor) else tuple(each.to(device) for each in made)


@lru_cache(MOST)
def _kept(build: Callable[..., Any], device: torch.device, *sizes: Hashable) -> Any:
    # Training uses what an evaluation made, and a model built on meta has real tables.
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        return _made(build, device, *sizes)
