"""NumPy archives (numpy.savez): a zip of one ``.npy`` an array, as Google publishes its ViTs.

JAX's bfloat16 has no NumPy type: its two bytes are written as the void type ``V2``, which means nothing else here.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from vitrail.checkpoints.containers import Entry, Tensors
from vitrail.checkpoints.containers.safetensors import refusal
from vitrail.errors import UserError

SUFFIXES = (".npz",)
MAX_MEMBERS = 100_000
MAX_RATIO = 1.5  # unpacked bytes to packed ones: weights are noise, and what packs better is no weights file
MAX_ARRAY_HEADER = 10_000
_UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, SyntaxError, RecursionError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class _Header:
    dtype: torch.dtype
    shape: tuple[int, ...]
    fortran: bool
    """Whether the first axis runs fastest, as in arrays that were transposed before they were saved."""
    begin: int
    """Bytes before the values."""


@dataclass
class Npz(Tensors):
    """An open archive whose directory and array headers were checked."""

    archive: zipfile.ZipFile | None = None

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        assert self.archive is not None
        entry = self.entries[name]
        try:
            with self.archive.open(f"{name}.npy") as member:
                fortran = _header(cast("BinaryIO", member)).fortran
                data = bytearray(member.read())  # the checksum is compared at the end
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path} is damaged in {name}: {error}; fetch it again") from None
        if len(data) != math.prod(entry.shape) * entry.dtype.itemsize:
            raise UserError(f"{self.path} ends early in {name}; fetch it again")
        value = torch.frombuffer(data, dtype=entry.dtype)
        if fortran:
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
    try:
        if not path.is_file():
            raise UserError(f"there is no weights file {path}; give a .npz file")
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        return cast("Npz", refuse(f"it is no zip archive ({error})"))
    try:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names) or len(names) > MAX_MEMBERS:
            refuse("its directory repeats a name or is endless")
        if sum(m.file_size for m in members) > MAX_RATIO * path.stat().st_size + 100_000:
            refuse("it claims to unpack to far more than its size")
        entries = {}
        for member in members:
            if not member.filename.endswith(".npy") or member.flag_bits & 1:
                refuse(f"{member.filename!r} is no plain array")
            with archive.open(member) as file:
                header = _header(cast("BinaryIO", file))
            if header.begin + math.prod(header.shape) * header.dtype.itemsize != member.file_size:
                refuse(f"{member.filename!r} has a shape that does not fit its bytes")
            entries[member.filename.removesuffix(".npy")] = Entry(header.dtype, header.shape)
    except _UNREADABLE as error:
        archive.close()
        if isinstance(error, UserError):
            raise
        return cast("Npz", refuse(f"an array in it cannot be read ({str(error).splitlines()[0]})"))
    return Npz(path, entries, {}, archive)


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, not atomically; an archive of arrays holds no ``metadata``."""
    with open(path, "wb") as file:
        np.savez(file, **{name: value.detach().cpu().numpy() for name, value in state.items()})  # type: ignore[arg-type]


def _header(file: BinaryIO) -> _Header:
    """The header of an array.

    Raises:
        ValueError, TypeError: no array of numbers that torch has.
    """
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"array format {version} is not known")
    shape, fortran, dtype = read(file, max_header_size=MAX_ARRAY_HEADER)
    if dtype == np.dtype("V2"):
        kind = torch.bfloat16
    elif dtype.kind in "fiub":
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
    else:
        raise ValueError(f"an array of {dtype} is no weight")
    return _Header(kind, tuple(int(n) for n in shape), fortran, file.tell())
