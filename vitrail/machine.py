"""What of the machine this process may use: cores and devices, and where its children import from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.console import note
from vitrail.errors import UserError

if TYPE_CHECKING:
    import torch


SAFE_PATH = "PYTHONSAFEPATH"  # of Python


@contextmanager
def safe_children() -> Iterator[None]:
    """Processes that start meanwhile import nothing from the working directory, unless this one does, as ``python -m``.

    Without it, those of :mod:`multiprocessing` import a ``socket.py`` that lies there in place of Python's own.
    """
    before = os.environ.get(SAFE_PATH)
    if not {"", os.getcwd()} & {*sys.path}:
        os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        os.environ.pop(SAFE_PATH, None)
        if before is not None:
            os.environ[SAFE_PATH] = before


def num_cores() -> int:
    """Number of cores that this process may run on, which a container or ``taskset`` can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sums_of_int8_overflow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor adds products of two 8-bit numbers in 16 bits, which saturate: x86 without VNNI or AMX.

    Args:
        cpuinfo: what Linux says of the processor; elsewhere there is none, and the answer is no.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)  # of x86
    return flags is not None and not any("vnni" in flag or flag == "amx_int8" for flag in flags)


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name; ``auto`` takes the accelerator if there is one, else the CPU, and prints which.

    Raises:
        UserError: no such device.
    """
    import torch  # commands that need no model start without it

    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"device {str(device)!r} cannot be used ({reason}); try --device auto") from None
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    note(f"device auto: {found.type}")
    return found
