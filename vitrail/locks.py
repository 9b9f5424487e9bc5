"""Exclusive locks on files, held by a process until it ends, however it ends; on every operating system."""

from __future__ import annotations

import sys
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[str]) -> None:
        """Lock an open file without waiting; closing it, or the end of the process, unlocks it.

        Raises:
            BlockingIOError: another process has locked it.
            OSError: the file system has no locks.
        """
        file.seek(0)  # what is locked begins where the file is
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # Windows' word for a byte that another process has locked
            raise BlockingIOError(*error.args) from None

else:
    import fcntl

    def try_lock(file: IO[str]) -> None:
        """Lock an open file without waiting; closing it, or the end of the process, unlocks it.

        Raises:
            BlockingIOError: another process has locked it.
            OSError: the file system has no locks.
        """
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # EACCES, which POSIX allows in place of EAGAIN
            raise BlockingIOError(*error.args) from None
