"""Signals: acknowledged at once, whatever the main thread does."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from typing import Any

import pytest

from vitrail.train import signals
from vitrail.train.signals import Signals


def later(number: int) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_acknowledged_while_an_operation_does_not_return(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own handlers wait until the operation, here a hash of about a second, has ended."""
    said: list[tuple[float, str]] = []
    monkeypatch.setattr(signals, "note", lambda text: said.append((time.monotonic(), text)))
    with Signals() as received:
        received.deferring = True
        later(number)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)
        ended = time.monotonic()
    assert received.received == number
    assert received.exit_code == 128 + number
    ((when, text),) = said
    assert when < ended - 0.1
    assert text == f"{signal.Signals(number).name}: stopping, saving after this step; Ctrl-C stops at once"


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_before_the_first_step_there_is_nothing_to_wait_for(number: int, error: Any, capsys: Any) -> None:
    def interrupted() -> None:
        with Signals():
            later(number)
            time.sleep(30)

    with pytest.raises(error):
        interrupted()
    assert "nothing has been trained yet" in capsys.readouterr().err


def test_everything_is_as_before_afterwards() -> None:
    handlers, threads = [signal.getsignal(number) for number in signals.HANDLED], threading.active_count()
    with Signals():
        pass
    assert [signal.getsignal(number) for number in signals.HANDLED] == handlers
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads
