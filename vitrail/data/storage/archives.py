"""The members of tar and zip archives, read in place by their offsets: nothing is ever extracted to disk.

An archive with a member that is a link or a device, leads out of it, comes twice, or expands beyond reason is refused.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail import console, files
from vitrail.data.indexing.index import Stamps, Strings, Table, file_stamps
from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import BYTES
from vitrail.data.media.read import read_regular
from vitrail.data.source import Source
from vitrail.errors import UserError

_MAX_EXPANSION = 200  # images hardly shrink, so an archive that grows this much is a bomb
_FREE_EXPANSION = 100_000_000  # bytes


def most_unpacked(on_disk: int) -> int:
    """Bytes that an archive of so many may unpack to, all members together."""
    return _MAX_EXPANSION * on_disk + _FREE_EXPANSION


class Member(NamedTuple):
    """A file in an archive: ``stored`` bytes from ``offset`` that are ``size`` bytes unpacked."""

    name: bytes
    offset: int
    stored: int
    size: int
    deflated: bool


def members(path: Path) -> list[Member]:
    """The regular files of a ``.tar`` or ``.zip``, in archive order.

    Raises:
        UserError: the archive is damaged, compressed (``.tar.gz``), or holds a member that is refused.
    """
    try:
        listed = list(_zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path))
    except UserError:
        raise
    except Exception as error:  # hostile bytes make parsers fail in every way there is
        hint = "; unpack .tar.gz and the like to plain .tar" if path.suffix.lower() in (".gz", ".tgz", ".xz") else ""
        reason = "its headers are nested without end" if isinstance(error, RecursionError) else str(error) or "damaged"
        raise UserError(f"{path} cannot be read as an archive: {reason.splitlines()[0]}{hint}") from None
    seen: set[bytes] = set()
    for member in listed:
        if member.name in seen:
            raise _refusal(path, member.name, "comes twice")
        seen.add(member.name)
        if member.size > BYTES.value:
            raise _refusal(path, member.name, f"has {member.size:,} bytes, more than {BYTES}")
    on_disk, total = path.stat().st_size, sum(member.size for member in listed)
    if total > most_unpacked(on_disk) or sum(member.stored for member in listed) > on_disk:
        raise UserError(f"{path} is refused: its {on_disk:,} bytes expand to {total:,}; a real image archive does not")
    return listed


def _tar_members(path: Path) -> Iterator[Member]:
    length = path.stat().st_size
    with open(path, "rb", opener=files.regular) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            name = _safe_name(path, info.name.encode("utf-8", "surrogateescape"))
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise _refusal(path, name, "is a link, a device or a sparse file")
            if info.offset_data + info.size > length:
                raise _refusal(path, name, "is cut short")
            yield Member(name, info.offset_data, info.size, info.size, False)


def _zip_members(path: Path) -> Iterator[Member]:
    with open(path, "rb", opener=files.regular) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = _safe_name(path, os.fsencode(info.filename))
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _refusal(path, name, "is a link or a device")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refusal(path, name, "is encrypted or packed by another method than deflate")
            file.seek(info.header_offset)
            header = file.read(30)
            if len(header) < 30:
                raise _refusal(path, name, "is cut short")
            offset = info.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            yield Member(name, offset, info.compress_size, info.file_size, deflated)


def _safe_name(path: Path, name: bytes) -> bytes:
    parts = name.replace(b"\\", b"/").split(b"/")
    if parts[0] == b"" or b".." in parts or parts[0].endswith(b":"):
        raise _refusal(path, name, "leads out of the archive")
    return b"/".join(part for part in parts if part not in (b"", b"."))


def _refusal(path: Path, name: bytes, reason: str) -> UserError:
    shown = os.fsdecode(name)
    return UserError(f"{path} is refused: its member {shown!r} {reason}; build the archive again from plain files")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Archived(Source):
    """Images inside archives.

    Attributes:
        archives: the archives' paths.
        columns: ``archive`` int32, ``offset``, ``stored``, ``size`` int64 and ``deflated`` bool, each (N,).
    """

    archives: tuple[str, ...]
    names: Strings
    columns: Table

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        archive = self.archives[int(self.columns["archive"][index])]
        return console.printable(f"{archive}/{os.fsdecode(self.names[index])}")

    def read(self, index: int) -> bytes:
        archive, offset, stored, size = (int(self.columns[c][index]) for c in ("archive", "offset", "stored", "size"))
        data = read_regular(self.archives[archive], offset, stored)
        return inflate(data, size) if self.columns["deflated"][index] else data

    def stamps(self, indices: np.ndarray) -> Stamps:
        """Those of the members' archives, with the members' own sizes."""
        of_archive = file_stamps(os.fsencode(archive) for archive in self.archives)
        own = self.columns["archive"][indices]
        return Stamps(self.columns["size"][indices] + (of_archive.sizes[own] << 20), of_archive.times[own])


def inflate(data: bytes, size: int) -> bytes:
    """Unpack raw deflate data of ``size`` bytes; never more, whatever the data would grow to."""
    try:
        unpacked = zlib.decompressobj(-15).decompress(data, size + 1)
    except zlib.error:
        raise BadImage("is damaged inside its archive") from None
    if len(unpacked) != size:
        raise BadImage("has another size than its archive declares")
    return unpacked
