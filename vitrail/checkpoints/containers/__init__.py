"""A file of named tensors, one container a file: ``matches(path)`` and ``open_tensors(path) -> Tensors``.

A file is somebody else's until proven harmless: what it holds is known, and checked against the file's real size,
before a byte is allocated for a tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from vitrail import registry
from vitrail.errors import UserError


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
        """The tensor on the CPU, in memory of its own.

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
    """Open a weights file by its suffix.

    Args:
        allow_pickle: accept files of torch.save, which are read in a child process with bounded memory.

    Raises:
        UserError: absent, damaged, hostile, of no known suffix, or a pickle that was not allowed.
    """
    path = Path(path)
    for name in registry.names("checkpoints.containers"):
        container = registry.load("checkpoints.containers", name)
        if path.name.endswith(container.SUFFIXES):
            if name == "pickle" and not allow_pickle:
                raise UserError(
                    f"{path} is a pickle, which can run code when it is opened; "
                    "if you trust its source, say --allow-pickle"
                )
            opened: Tensors = container.open_tensors(path)
            return opened
    known = [
        s for n in registry.names("checkpoints.containers") for s in registry.load("checkpoints.containers", n).SUFFIXES
    ]
    raise UserError(f"{path} is no weights file that Vitrail reads; it reads {', '.join(known)}")
