"""Signals are noticed as they arrive, whatever the main thread does."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


@contextmanager
def announced(numbers: Collection[int], announce: Callable[[int], None]) -> Iterator[None]:
    """Within, a thread calls ``announce`` with the first of the signals ``numbers`` that arrives and has a handler.

    A handler in Python waits until the operation of a library returns, which a backward pass or a conversion may do
    after a minute; so the thread is woken by the C handler through a socket (``signal.set_wakeup_fd``). Only the main
    thread can ask for that; in another one nothing is announced.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)

    def listen() -> None:
        while arrived := woken.recv(16):  # other signals, such as of a child's end, wake it too
            if (number := next((each for each in arrived if each in numbers), None)) is not None:
                announce(number)
                return

    before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        wakes.close()  # which ends the thread, after what has arrived
        thread.join()
        woken.close()
