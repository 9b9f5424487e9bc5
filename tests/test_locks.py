"""Both halves of :mod:`vitrail.locks`: this system's, and Windows' with a stand-in for ``msvcrt``."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import pytest

from vitrail import locks
from vitrail.errors import UserError


class Msvcrt(SimpleNamespace):
    """``msvcrt.locking`` as Microsoft documents ``_locking``: a range of bytes of a file belongs to one descriptor."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}  # (file, byte) → descriptor

    def locking(self, descriptor: int, mode: int, num_bytes: int) -> None:
        assert mode == self.LK_NBLCK
        begin = os.lseek(descriptor, 0, os.SEEK_CUR)
        for byte in range(begin, begin + num_bytes):
            if self.held.setdefault((os.fstat(descriptor).st_ino, byte), descriptor) != descriptor:
                raise PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Windows imports it."""
    spec = importlib.util.spec_from_file_location("locks_of_windows", locks.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        patched.setitem(sys.modules, "fcntl", None)  # importing it fails
        patched.setitem(sys.modules, "msvcrt", Msvcrt())  # type: ignore[arg-type]
        spec.loader.exec_module(module)
    return module


def test_a_file_locked_by_another_process_until_that_ends(tmp_path: Path) -> None:
    program = (
        "import sys; from vitrail.locks import try_lock; file = open(sys.argv[1], 'w'); try_lock(file); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with (
        open(tmp_path / "lock", "w") as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline().split() == [b"locked"]
        with pytest.raises(BlockingIOError):
            locks.try_lock(file)
        other.kill()
        other.wait()
        locks.try_lock(file)


def test_windows_locks_the_same_byte_wherever_the_file_stands(windows: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with open(path, "w") as first, open(path, "w") as second:
        first.write("moved")
        windows.try_lock(first)
        windows.try_lock(first)  # its own lock is no obstacle
        with pytest.raises(BlockingIOError):
            windows.try_lock(second)


def test_windows_reports_a_file_system_without_locks(windows: ModuleType, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    windows.msvcrt.locking = refuse
    with open(tmp_path / "lock", "w") as file, pytest.raises(OSError, match="not implemented") as caught:
        windows.try_lock(file)
    assert not isinstance(caught.value, BlockingIOError)


@pytest.mark.parametrize("system", ["here", "windows"])
def test_a_run_folder_is_claimed_once(
    system: str, windows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.train.folder import RunFolder

    if system == "windows":
        monkeypatch.setattr(locks, "try_lock", windows.try_lock)
    else:  # POSIX' locks belong to processes: another one has it

        def locked(file: IO[Any]) -> None:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(locks, "try_lock", locked)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    if system == "windows":
        first.claim()
    with pytest.raises(UserError, match=r"another process is training in .*run; wait for it or choose another --name"):
        second.claim()
    first.release()
