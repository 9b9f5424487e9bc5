"""A file of named tensors, one container a file: ``SUFFIXES``, ``begins(head)`` and ``open_tensors(path) -> Tensors``.

A suffix that means a format which runs no code is believed; what any other file is, its first bytes tell. Files are
not trusted: what one holds is known, and checked against its real size, before a byte is allocated for a tensor.
"""

from __future__ import annotations

import math
import mmap
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from vitrail import registry
from vitrail.errors import UserError
from vitrail.machine import num_cores

PICKLE, PICKLED_INDEX = "pickle", ".bin.index.json"
HEAD_BYTES = 512
READERS = 4  # threads at most: the system copies out of its cache as fast as one core does; more than cores are slower


@dataclass(frozen=True)
class Entry:
    """What a tensor will be."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass
class Tensors(ABC):
    """An open file. ``entries`` by name; ``metadata`` is the container's own texts, empty in most."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)

    @abstractmethod
    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        """The tensor on the CPU, in newly allocated memory. Several threads may call it concurrently.

        Args:
            out: read into this, a contiguous tensor of as many elements and the same dtype.

        Raises:
            UserError: the file cannot be read to the end.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_tensors(path: str | Path, *, allow_pickle: bool = False) -> Tensors:
    """Open a weights file, by its content or else by its suffix.

    Args:
        allow_pickle: accept files of torch.save, which are read in a child process with bounded memory.

    Raises:
        UserError: absent, damaged, hostile, of no known kind, or a pickle that was not allowed.
    """
    path = Path(path)
    name = container_of(path)
    if name not in (None, PICKLE) and _load(PICKLE).begins(_first_bytes(path)):
        raise UserError(f"{path} is a file of torch.save, whatever its name says; name it {path.stem}.pth")
    if name is None:
        known = [suffix for each in _names() for suffix in _load(each).SUFFIXES]
        raise UserError(f"{path} is no weights file that Vitrail reads; it reads {', '.join(known)}")
    if name == PICKLE or path.name.lower().endswith(PICKLED_INDEX):
        require_allowed(path, allow_pickle)
    opened: Tensors = _load(name).open_tensors(path)
    return opened


def container_of(path: Path) -> str | None:
    """The name of the container that a file is, None if it is none."""
    lowered = path.name.lower()
    named = next((name for name in _names() if lowered.endswith(_load(name).SUFFIXES)), None)
    if named not in (None, PICKLE):
        return named
    head = _first_bytes(path)
    return next((name for name in _names() if _load(name).begins(head)), named)


def require_allowed(path: Path, allow_pickle: bool) -> None:
    """Raises UserError unless the user allowed files of torch.save."""
    if not allow_pickle:
        raise UserError(
            f"{path} is a pickle, which can run code when it is opened; if you trust its source, pass --allow-pickle"
        )


def _names() -> list[str]:
    return registry.names("checkpoints.containers")


def _load(name: str) -> ModuleType:
    return registry.load("checkpoints.containers", name)


def _first_bytes(path: Path) -> bytes:
    """Of a regular file that can be read; else none."""
    try:
        if not path.is_file():  # a FIFO would wait
            return b""
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def room(like: Mapping[str, Entry | Tensor]) -> dict[str, Tensor]:
    """Tensors of these shapes and dtypes to be filled, side by side in one piece of memory of large pages.

    Asking the system for 4 kB at a time takes as long as reading the file does. The piece lives as long as one of them.
    """
    begins, size = {}, 0
    for name, entry in like.items():
        begins[name], size = size, size + -(-math.prod(entry.shape) * entry.dtype.itemsize // 64) * 64  # aligned
    if not size:
        return {}
    if sys.platform == "win32":
        memory = mmap.mmap(-1, size)
    else:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return {
        name: torch.frombuffer(memory, dtype=entry.dtype, count=math.prod(entry.shape), offset=begins[name]).view(
            entry.shape
        )
        for name, entry in like.items()
    }


def fill(places: Mapping[str, Tensor], tensors: Tensors) -> None:
    """Read many tensors into their places, several at a time, and check each while it is still in the cache.

    Raises:
        UserError: the file cannot be read to the end, or holds NaN or infinity.
    """
    waiting = deque(places)

    def read(take: Callable[[], str]) -> None:
        while True:
            try:
                name = take()
            except IndexError:
                return
            require_finite({name: tensors.read(name, places[name])}, tensors.path)

    readers = min(READERS, num_cores())
    ends = (waiting.popleft, waiting.pop)  # neighbours share a large page, and only one of them can fault it in
    with ThreadPoolExecutor(readers) as pool:
        for _ in pool.map(read, [ends[number % 2] for number in range(readers)]):
            pass


def require_finite(state: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse weights that can only compute NaN.

    Raises:
        UserError: a tensor holds NaN or infinity.
    """
    for name, value in state.items():
        # One pass without a mask; a sum may overflow where its terms are finite.
        if value.is_floating_point() and not _has_finite_sum(value) and not value.isfinite().all():
            raise UserError(f"{where}: tensor {name!r} holds NaN or infinity; use an earlier file")


def _has_finite_sum(value: Tensor) -> bool:
    """By NumPy where it has the type: torch would start a team of threads for each calling thread.

    einsum adds up three times as fast as sum, which takes care to round little.
    """
    if value.dtype not in (torch.float32, torch.float64) or value.device.type != "cpu":
        return bool(value.sum().isfinite())
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.einsum("i->", value.detach().reshape(-1).numpy())))
