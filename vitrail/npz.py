"""NumPy archives (``numpy.savez``) with nothing taken on trust: of data and of weights.

A zip of one ``.npy`` an array. The directory and the header of every array are checked before an array is read, and no
more is unpacked than its header says.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from vitrail import files

MAX_MEMBERS = 100_000
MAX_ARRAY_HEADER = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class NpzError(ValueError):
    """The archive is damaged or hostile; the message is the cause alone."""


@dataclass(frozen=True)
class Header:
    """What the header of an array says.

    Attributes:
        fortran: whether the first axis runs fastest, as in arrays that were transposed before they were saved.
        begin: bytes before the values.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    begin: int


class Archive:
    """An open archive whose directory and array headers were checked; ``headers`` by the arrays' names."""

    def __init__(
        self, path: str | Path, limit: Callable[[int], float], check: Callable[[str, Header], None] | None = None
    ) -> None:
        """Open ``path``.

        Args:
            limit: size of the file → bytes that it may unpack to, both in all.
            check: called with each array's name and header; raises ValueError for one that is not wanted.

        Raises:
            NpzError: no archive of arrays, or one that claims too much.
            OSError: it cannot be opened.
        """
        descriptor = files.no_wait(path)
        self._file = open(descriptor, "rb")  # noqa: SIM115  open as long as the archive
        self.headers: dict[str, Header] = {}
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NpzError("it is not a regular file")
            self._archive = _directory(self._file)
            self._check(status.st_size, limit, check)
        except BaseException:
            self.close()
            raise

    def _check(self, on_disk: int, limit: Callable[[int], float], check: Callable[[str, Header], None] | None) -> None:
        members = self._archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names) or len(names) > MAX_MEMBERS:
            raise NpzError("its directory repeats a name or is endless")
        if (total := sum(member.file_size for member in members)) > limit(on_disk):
            raise NpzError(f"it claims to unpack to far more than its size ({on_disk:,} bytes to {total:,})")
        for member in members:
            if not member.filename.endswith(".npy") or member.flag_bits & 1 or member.compress_type not in _METHODS:
                raise NpzError(f"{member.filename!r} is no plain array")
            name = member.filename.removesuffix(".npy")
            try:
                with self._archive.open(member) as file:
                    header = read_header(cast("BinaryIO", file))
                if check is not None:
                    check(name, header)
                if header.dtype.hasobject:
                    raise NpzError("object arrays cannot be loaded, since they can run code")
            except NpzError:
                raise
            except Exception as error:  # hostile bytes make parsers fail in every way there is
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise NpzError(f"an array in it cannot be read ({reason})") from None
            if header.begin + math.prod(header.shape) * header.dtype.itemsize != member.file_size:
                raise NpzError(f"{member.filename!r} has a shape that does not fit its bytes")
            self.headers[name] = header

    def data(self, name: str) -> bytearray:
        """The values of an array as they are stored.

        Raises:
            NpzError: they are damaged.
        """
        header = self.headers[name]
        try:
            with self._archive.open(f"{name}.npy") as member:
                member.read(header.begin)
                data = bytearray(member.read())  # the checksum is compared at the end
        except Exception as error:  # as above
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise NpzError(f"{name} is damaged ({reason})") from None
        if len(data) != math.prod(header.shape) * header.dtype.itemsize:
            raise NpzError(f"it ends early in {name}")
        return data

    def array(self, name: str) -> np.ndarray:
        """An array. Raises as :meth:`data`."""
        header = self.headers[name]
        flat = np.frombuffer(self.data(name), header.dtype)
        return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # an error left it behind
            self._file.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _directory(file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # as above
        raise NpzError(f"it is no zip archive ({error})") from None


def read_header(file: BinaryIO) -> Header:
    """The header of a ``.npy`` file at its beginning.

    Raises:
        ValueError and others: it has none that is valid.
    """
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"array format {version} is not known")
    shape, fortran, dtype = read(file, max_header_size=MAX_ARRAY_HEADER)
    if any(side < 0 for side in shape) or math.prod(max(side, 1) for side in shape) > 2**62:
        raise ValueError(f"the shape {shape} is impossible")
    return Header(dtype, tuple(int(side) for side in shape), bool(fortran), file.tell())
