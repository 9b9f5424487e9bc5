"""Leaving in good order: a signal asks, the loop saves at the next step boundary and goes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

WATCHED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Asked(Exception):
    """A signal asks to leave, in the middle of something that can be done again."""


class Signals:
    """Within, SIGTERM, SIGUSR1 and the first Ctrl-C only set ``received``; a second Ctrl-C interrupts at once."""

    received: int | None = None

    def __enter__(self) -> Signals:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What to leave with, as shells count: 128 + the signal, i.e. SIGINT 130, SIGUSR1 138, SIGTERM 143."""
        return 128 + (self.received or signal.SIGTERM)  # on a rank that was not signalled itself: SIGTERM

    def watch(self, loader: Any) -> Watched:
        """The loader, which raises :class:`Asked` at the next batch once a signal has come."""
        return Watched(loader, self)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Watched:
    """See :meth:`Signals.watch`."""

    def __init__(self, loader: Any, signals: Signals) -> None:
        self.loader, self.signals = loader, signals

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int = 0) -> Iterator[dict[str, Any]]:
        """The loader's."""
        for batch in self.loader.batches(epoch):
            if self.signals.received is not None:
                raise Asked
            yield batch
