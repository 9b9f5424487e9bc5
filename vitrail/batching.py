"""Images that are read ahead of a model and computed batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError

READERS = 4  # threads that read and decode ahead of the model

A = TypeVar("A")
R = TypeVar("R")
Framed: TypeAlias = tuple[Tensor, ImageGeometry]
"""An image's pixels uint8 (C, H, W) at the input size, and where they lie in it."""
Compute: TypeAlias = Callable[[Tensor, Sequence[ImageGeometry]], list[R]]
"""(pixels (B, C, H, W), where they lie in their images) → a result an image."""


def attempt(read: Callable[[A], R], image: A) -> tuple[A, R | UserError]:
    """The image, and what reading it gives or the error of a user."""
    try:
        return image, read(image)
    except UserError as error:
        return image, error


def stacked(framed: Sequence[Framed], compute: Compute[R]) -> list[R]:
    """A result for each image, computed in one batch."""
    if not framed:
        return []
    return compute(torch.stack([pixels for pixels, _ in framed]), [geometry for _, geometry in framed])


def ahead(pool: ThreadPoolExecutor, function: Callable[[A], R], items: Iterator[A], size: int) -> Iterator[list[R]]:
    """Batches of ``function(item)``, one batch computed ahead."""
    waiting: deque[list[Future[R]]] = deque()
    while True:
        batch = [pool.submit(function, item) for item in islice(items, size)]
        waiting.append(batch)
        if len(waiting) > 1:
            yield [future.result() for future in waiting.popleft()]
        if not batch:
            return
