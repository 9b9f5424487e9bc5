"""Where the processes of a server come from."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

IMPORTED = ["vitrail.serve.reading", "vitrail.serve.worker"]


def context() -> ForkServerContext | SpawnContext:
    """Processes are forked from one that has no threads and has imported what they need (``forkserver``), where the
    system can: so they start within some hundredths of a second, and share the memory that the imports take.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(IMPORTED)
    return found


def show_name() -> None:
    """Let ``ps`` and ``top`` show what this process is: forked ones have the command line of another."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/comm").write_text(multiprocessing.current_process().name)
