"""Atomic writing: a file or a folder appears complete under its name, or not at all."""

from __future__ import annotations

import errno
import glob
import io
import itertools
import json
import os
import platform
import re
import shutil
import stat
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from vitrail.errors import UserError

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""The error numbers of a full disk, a full quota, and a file beyond its limit."""
ABANDONED = 24 * 3600  # seconds after which what another machine has not finished is taken for litter
_ONE_READER = threading.Lock()
_UNFINISHED = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-\d+\.tmp", re.DOTALL)
_numbers = itertools.count()
_swept: set[tuple[int, str]] = set()  # process and folder

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that JSON can hold."""


def cache_dir() -> Path:
    """``$VITRAIL_CACHE``, else ``$XDG_CACHE_HOME/vitrail``, else ``~/.cache/vitrail``."""
    if own := os.environ.get("VITRAIL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitrail"


def literal_first(pattern: str) -> str:
    """The pattern of a glob in which folders that exist as they are written, ``a [1]``, stand for themselves."""
    drive, rest = os.path.splitdrive(pattern)
    before, done = drive, list[str]()
    parts = rest.split(os.sep)
    for place, part in enumerate(parts):
        before = before + (os.sep if place else "") + part
        if glob.has_magic(part) and not os.path.lexists(before):
            return glob.escape(drive) + os.sep.join([*done, *parts[place:]])
        done.append(glob.escape(part))
    return glob.escape(drive) + os.sep.join(done)


@contextmanager
def replacing(path: str | Path, *, size: int = 0, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to write a file or a folder at; it is renamed to ``path`` on success.

    The data is synced to disk before the rename and the parent folder after it, so a power failure leaves the old
    content or the new one. A failure removes the temporary; that of a killed process goes with the next file that is
    written there. Several processes may write the same path: it has what one of them wrote, whole. A folder must not
    exist yet.

    Args:
        size: bytes about to be written, named in the error.
        durable: wait for the disk; False for one of many files that are easily made again, which a power failure may
            then leave empty.

    Raises:
        UserError: the disk is full or failing, or the path is not writable.
    """
    path = Path(path)
    with _unfinished(path, size) as temporary:
        yield temporary
        _complete(temporary, durable)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Yield a file of that name in a folder of its own; what is there in the end gets beside ``path``, itself last.

    Raises:
        UserError: as :func:`replacing`, or one of these files is there already.
    """
    with _unfinished(path) as folder:
        folder.mkdir()
        yield folder / path.name
        _complete(folder, durable=True)
        placed = list[Path]()
        try:
            for part in sorted(folder.iterdir(), key=lambda part: part.name == path.name):
                require_free(path.parent / part.name)
                os.replace(part, path.parent / part.name)
                placed.append(path.parent / part.name)
        except BaseException:
            for part in placed:
                remove(part)
            raise
        folder.rmdir()
        sync(path.parent)


def write_new(path: Path, data: bytes) -> Path:
    """Write a file of this name, or name-2 and so on where there is one; returns its path. Errors as in
    :func:`replacing`."""
    with _unfinished(path, len(data)) as temporary:
        temporary.write_bytes(data)
        _complete(temporary, durable=False)
        for number in itertools.count(1):
            place = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            with suppress(FileExistsError):
                _rename_to_free(temporary, place)
                break
    return place


class _Enduring(io.RawIOBase):
    """Takes whatever is written; the first error is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = open(path, "wb")  # noqa: SIM115  closed with this one
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return offset if self.error else self.file.seek(offset, whence)

    def write(self, data: Any) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def close(self) -> None:
        super().close()
        try:
            self.file.close()
        except OSError as error:
            self.error = self.error or error


@contextmanager
def enduring(path: Path) -> Iterator[IO[bytes]]:
    """A new file for a library that crashes where a write fails: what failed is raised in the end.

    Raises:
        OSError: the disk is full or failing.
    """
    with _Enduring(path) as file:
        yield cast("IO[bytes]", file)
    if file.error is not None:
        raise file.error


def require_free(path: Path) -> None:
    """Is there no such file yet?

    Raises:
        UserError: there is.
    """
    if os.path.lexists(path):
        raise UserError(f"{path} is there already; name another file or remove it")


@contextmanager
def _unfinished(path: Path, size: int = 0) -> Iterator[Path]:
    """A name beside ``path`` that nobody else has, and nothing under it in the end; errors as :func:`replacing`."""
    name = f".{path.name[:50]}.{_machine()}-{os.getpid()}-{next(_numbers)}.tmp"
    temporary = path.with_name(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        remove(temporary)  # of a process that had this one's number
        yield temporary
    except OSError as error:
        amount = f" ({size:,} bytes)" if size else ""
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}{amount}: {reason}; free some space or choose another place") from error
    finally:
        with suppress(OSError):
            remove(temporary)


def _complete(temporary: Path, durable: bool) -> None:
    """What was written gets the permissions of new files, and is on disk if it must."""
    for written in [*temporary.rglob("*"), temporary]:
        _open_to_others(written)
        if durable:
            sync(written)


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Raises FileExistsError: there is such a file."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(temporary, path)


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder, which is looked through once by a process."""
    if (key := (os.getpid(), str(folder))) in _swept:
        return
    _swept.add(key)
    with os.scandir(folder) as entries:
        found = [(_UNFINISHED.fullmatch(entry.name), entry) for entry in entries if entry.name.endswith(".tmp")]
    for match, entry in found:
        with suppress(OSError):  # another process removes it, too
            if match is not None and _is_abandoned(match, entry):
                remove(Path(entry.path))


def _is_abandoned(name: re.Match[str], entry: os.DirEntry[str]) -> bool:
    if name["machine"] == _machine() and os.name == "posix":
        try:
            os.kill(int(name["process"]), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED


def _machine() -> str:
    """8 hexadecimal digits: processes of the same machine (or container) know whether each other runs."""
    return f"{zlib.crc32(platform.node().encode('utf-8', 'surrogateescape')):08x}"


def write_text(path: str | Path, text: str) -> None:
    """Replace the file at ``path`` by UTF-8 ``text``, atomically."""
    data = text.encode("utf-8", "surrogateescape")
    with replacing(path, size=len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: object) -> None:
    """Replace the file at ``path`` by ``value`` as JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        UserError: it cannot be read, or contains anything else.
    """
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            value = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"cannot read {path}: {reason}; restore or remove it") from None
    if not isinstance(value, dict):
        raise UserError(f"cannot read {path}: it holds no JSON object; restore or remove it")
    return value


def append(path: str | Path, text: str) -> None:
    """Append to a text file that is not a symbolic link: all of the text, or nothing.

    Raises:
        UserError: it is a link, or cannot be written.
    """
    rest, new = text.encode("utf-8", "surrogateescape"), not os.path.lexists(path)
    try:
        with open(path, "ab", buffering=0, opener=no_link) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        if new and error.errno in NO_ROOM:
            remove(Path(path))
        remedy = "free some space" if error.errno in NO_ROOM else "remove it"
        raise UserError(f"cannot write {path}: {error.strerror}; {remedy} or choose another place") from None


def no_link(path: str, flags: int) -> int:
    """An opener for ``open`` that refuses symbolic links (ELOOP), which could point anywhere, and what is no regular
    file, such as a FIFO, for whose reader it does not wait."""
    if not (refused := _flags("O_NOFOLLOW")) and os.path.islink(path):  # Windows has no such flag
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    descriptor = os.open(path, flags | refused | _flags("O_NONBLOCK"), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def no_wait(path: bytes | str | Path, flags: int = os.O_RDONLY) -> int:
    """An opener for ``open`` whose descriptor reads bytes as they are and never waits for the writer of a FIFO."""
    return os.open(path, flags | _flags("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"))


def regular(path: str | bytes, flags: int) -> int:
    """An opener for ``open`` that refuses FIFOs, devices and the like (EINVAL), and never waits for one."""
    descriptor = no_wait(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def _flags(*names: str) -> int:
    """Those flags of ``open`` that this operating system has."""
    return sum(getattr(os, name, 0) for name in names)


def read_at(descriptor: int, into: memoryview, offset: int) -> int:
    """Read from ``offset`` of an open file into memory; several threads may.

    Returns:
        How many bytes were read, which may be fewer than ``into`` holds; 0 at the end of the file.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], offset)
    with _ONE_READER:  # Windows: the position is the descriptor's
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, min(len(into), 2**26))
    into[: len(data)] = data
    return len(data)


def sync(path: Path) -> None:
    """Wait until the file or the folder entry is on disk."""
    if not hasattr(os, "O_DIRECTORY") and path.is_dir():
        return  # Windows cannot open a folder, and writes its entries itself
    writable = 0 if hasattr(os, "O_DIRECTORY") else os.O_RDWR  # which Windows' fsync requires
    descriptor = os.open(path, os.O_RDONLY | writable)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_to_others(path: Path) -> None:
    """The permissions that ``open`` gives a new file: some libraries write theirs for the owner alone (0600)."""
    if path.is_symlink():
        return
    mask = os.umask(0o077)  # there is no other way to read it; in between, files are created too tight and not too open
    os.umask(mask)
    with suppress(PermissionError):  # a file system without permissions
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def remove(path: Path) -> None:
    """Delete a file or an entire folder; a path that does not exist is ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):  # unlike unlink, it finds nothing below a file
        path.unlink(missing_ok=True)
