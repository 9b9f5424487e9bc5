"""NumPy archives (numpy.savez): a zip of one ``.npy`` an array, as Google publishes its ViTs.

JAX's bfloat16 has no NumPy type: its two bytes are written as the void type ``V2``, which means nothing else here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vitrail.checkpoints.containers import Entry, Tensors
from vitrail.checkpoints.containers.safetensors import refusal
from vitrail.errors import UserError
from vitrail.npz import Archive, Header, NpzError

SUFFIXES = (".npz",)
MAX_RATIO = 1.5  # unpacked bytes to packed ones: weights are noise, and what packs better is no weights file


@dataclass
class Npz(Tensors):
    """An open archive whose directory and array headers were checked."""

    archive: Archive | None = None

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        assert self.archive is not None
        entry = self.entries[name]
        try:
            data = self.archive.data(name)
        except NpzError as error:
            raise UserError(f"{self.path} is damaged: {error}; fetch it again") from None
        value = torch.frombuffer(data, dtype=entry.dtype)
        if self.archive.headers[name].fortran:
            value = value.reshape(entry.shape[::-1]).permute(*range(len(entry.shape))[::-1])
        value = value.reshape(entry.shape)
        return value if out is None else out.copy_(value.reshape(out.shape))

    def close(self) -> None:
        if self.archive is not None:
            self.archive.close()


def begins(head: bytes) -> bool:
    """Whether a file that begins so is one: a zip whose first member is an array."""
    length = int.from_bytes(head[26:28], "little")
    return head[:4] == b"PK\x03\x04" and head[30 : 30 + length].endswith(b".npy")


def open_tensors(path: Path) -> Npz:
    """Open an archive and read the header of every array.

    Raises:
        UserError: absent, damaged or hostile.
    """
    refuse = refusal(path)
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; give a .npz file")
    try:
        archive = Archive(path, lambda size: MAX_RATIO * size + 100_000, _check)
    except (NpzError, OSError) as error:
        return cast("Npz", refuse(str(error)))
    entries = {name: Entry(_dtype(header), header.shape) for name, header in archive.headers.items()}
    return Npz(path, entries, {}, archive)


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, not atomically; an archive of arrays holds no ``metadata``."""
    with open(path, "wb") as file:
        np.savez(file, **{name: value.detach().cpu().numpy() for name, value in state.items()})  # type: ignore[arg-type]


def _check(_: str, header: Header) -> None:
    _dtype(header)


def _dtype(header: Header) -> torch.dtype:
    """Raises ValueError or TypeError for an array of what torch has no numbers for."""
    if header.dtype == np.dtype("V2"):
        return torch.bfloat16
    if header.dtype.kind not in "fiub":
        raise ValueError(f"an array of {header.dtype} is no weight")
    return torch.from_numpy(np.empty(0, header.dtype)).dtype
