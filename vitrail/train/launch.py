"""Starting a training's processes on this machine, watching them, and starting all of them again after a crash.

A job that lost a process is ended and restarted with all processes: it resumes from its last state. (Replacing a single
rank in place, as elastic launchers do, was observed to hang.) It imports no torch, so the watching process is small.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from vitrail.console import warn
from vitrail.machine import num_cores

WATCHED = "VITRAIL_WATCHED"  # set in the environment of the processes that are started here
GRACE = 40  # seconds for the other processes to leave after one has crashed, or all after a signal
LOST = 75  # the exit code of a process that lost another one (EX_TEMPFAIL of sysexits.h)
DELIBERATE = {2, 130, 138, 143}  # a user's mistake, or asked to leave: a restart would not help

FORWARDED = tuple(number for number in signal.Signals if number.name in ("SIGTERM", "SIGUSR1", "SIGINT"))
"""Windows has no SIGUSR1."""


def is_watched() -> bool:
    """Whether this process was started by :func:`watch`, or by torchrun."""
    return WATCHED in os.environ or "RANK" in os.environ


def watch(command: list[str], *, processes: int, restarts: int, is_complete: Callable[[], bool]) -> int:
    """Run ``command`` in ``processes`` processes, again after a crash, at most ``restarts`` times.

    A job that crashed when its training was complete is started once more in any case: only its report is missing.

    Returns:
        The exit code: 0 or that of the first process that failed.
    """
    received: list[int] = []
    job: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in job:
            if process.poll() is None and not (sys.platform == "win32" and number == signal.SIGINT):
                process.send_signal(number)  # Ctrl-C reaches each process of a Windows console by itself

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        while True:
            job[:] = _start(command, processes)
            code = _wait(job)
            if code == 0 or code in DELIBERATE or received:
                return 128 + received[-1] if received and code not in DELIBERATE else code
            if is_complete():
                is_complete, restarts = (lambda: False), 1
            if not restarts:
                return code
            restarts -= 1
            warn(f"a process ended with code {code}; starting again from the last state")
    finally:
        for process in job:
            if process.poll() is None:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: list[str], processes: int) -> list[subprocess.Popen[bytes]]:
    environment = os.environ | {WATCHED: "1"}
    if processes == 1:
        return [subprocess.Popen(command, env=environment)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, num_cores() // processes)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)
    )
    environment = {"OMP_NUM_THREADS": str(threads)} | environment | shared
    return [
        subprocess.Popen(command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]


def _wait(job: list[subprocess.Popen[bytes]]) -> int:
    """Until all have ended; those that still run long after one has crashed are killed."""
    deadline = None
    while any(process.poll() is None for process in job):
        if deadline is None and any(process.poll() for process in job):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            for process in job:
                process.kill()
        time.sleep(0.05)
    codes = [process.returncode for process in job if process.returncode]
    chosen = next((code for code in codes if code in DELIBERATE), codes[0] if codes else 0)
    return chosen if chosen >= 0 else 128 - chosen
