"""Resources of the machine that this process may use: cores and devices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vitrail.console import note
from vitrail.errors import UserError

if TYPE_CHECKING:
    import torch


def num_cores() -> int:
    """Number of cores that this process may run on, which a container or ``taskset`` can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
