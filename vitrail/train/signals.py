"""Leaving on a signal: it is acknowledged at once, and the loop saves at the next step boundary and ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from vitrail.console import note
from vitrail.data import Loader
from vitrail.data.batch import Batch
from vitrail.interrupts import announced

HANDLED = tuple(number for number in signal.Signals if number.name in ("SIGTERM", "SIGUSR1", "SIGINT"))
"""Windows has no SIGUSR1."""


class StopRequested(Exception):
    """A signal was received during work that can be repeated."""


class Signals:
    """Within, SIGTERM, SIGUSR1 and the first Ctrl-C are acknowledged; a second Ctrl-C interrupts immediately.

    While ``deferring``, the first one only sets ``received``; before, when there is nothing to save, it ends the work.
    """

    received: int | None = None
    deferring = False

    def __enter__(self) -> Signals:
        self._before: dict[int, Any] = {}
        self._announced = announced(HANDLED, self._acknowledge)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in HANDLED}
        self._announced.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._announced.__exit__(None, None, None)

    @property
    def exit_code(self) -> int:
        """The exit code by the shells' convention: 128 + the signal, i.e. SIGINT 130, SIGUSR1 138, SIGTERM 143."""
        return 128 + (self.received or signal.SIGTERM)  # a rank that received none itself: SIGTERM

    def interrupting(self, loader: Loader) -> InterruptibleLoader:
        """The loader, which raises :class:`StopRequested` at the next batch after a signal."""
        return InterruptibleLoader(loader, self)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self.deferring:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _acknowledge(self, number: int) -> None:
        if os.environ.get("RANK", "0") == "0":
            then = "saving after this step" if self.deferring else "nothing has been trained yet"
            note(f"{signal.Signals(number).name}: stopping, {then}; Ctrl-C stops at once")


class InterruptibleLoader:
    """See :meth:`Signals.interrupting`."""

    def __init__(self, loader: Loader, signals: Signals) -> None:
        self.loader, self.signals = loader, signals

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """The loader's."""
        for batch in self.loader.batches(epoch):
            if self.signals.received is not None:
                raise StopRequested
            yield batch
