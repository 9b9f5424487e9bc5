"""Resources of the machine that this process may use."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Number of cores that this process may run on, which a container or ``taskset`` can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
