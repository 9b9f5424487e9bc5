"""Processes that read what clients send, so that no body can hold up, crash or outlive the server.

Each takes one call at a time and a limited time for it; one that exceeds its time is killed and replaced, and so is one
that crashes (:mod:`vitrail.serve.processes` says how fast).
"""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar, TypeVarTuple, cast

from vitrail.errors import UserError
from vitrail.serve.processes import context, show_name
from vitrail.serve.refusals import Refused

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NUMBER = 2  # processes; the other cores are for the models
START_SECONDS = 120.0  # on a busy machine, with its imports
BY_THE_CLOCK = 5  # how many times the processor time a call may take by the clock, on a busy machine


class Readers:
    """``await readers(function, *arguments)`` is ``function(*arguments)``, computed in another process.

    Args:
        seconds: processor time of a call.
    """

    def __init__(self, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(NUMBER, "reader")
        self._all = [_Reader(seconds) for _ in range(NUMBER)]
        self._idle: asyncio.LifoQueue[_Reader] = asyncio.LifoQueue()  # the one used last is warm
        for each in self._all:
            self._idle.put_nowait(each)
        self._bulky = asyncio.Semaphore(NUMBER - 1)

    async def __call__(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Errors of ``function``, and:

        Raises:
            Refused: 422 it took too long, or ended its process.
        """
        reader = await self._idle.get()
        call: asyncio.Future[object] = asyncio.get_running_loop().run_in_executor(
            self._pool, reader.call, function, arguments
        )
        call.add_done_callback(lambda _: self._idle.put_nowait(reader))
        return cast(T, await asyncio.shield(call))  # whoever stops waiting does not stop the reader

    async def bulky(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """As a call, for what may take long and much memory, as JSON does: one reader is always left for the others."""
        async with self._bulky:
            return await self(function, *arguments)

    async def start(self) -> None:
        """Start all processes now, not when they are needed."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, each.start) for each in self._all))

    def close(self) -> None:
        """End all processes."""
        for each in self._all:
            each.kill()
        self._pool.shutdown(wait=False)


class _Reader:
    """One process; its calls are made one after the other, from any thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._process: BaseProcess | None = None
        self._closed = False

    def start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self.kill()
        self._closed = False
        where = context()
        self._pipe, theirs = where.Pipe()
        process = where.Process(target=read_on, args=(theirs, self.seconds), daemon=True, name="vitrail reader")
        process.start()
        theirs.close()
        self._process = process
        if not self._pipe.poll(START_SECONDS):
            raise RuntimeError("a reading process did not start")
        self._pipe.recv()

    def call(self, function: Callable[..., object], arguments: tuple[object, ...]) -> object:
        self.start()
        try:
            self._pipe.send((function, arguments))
            if not self._pipe.poll(BY_THE_CLOCK * self.seconds):
                raise self._too_slow()
            done, result = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        finally:
            if self._process is not None and not self._process.is_alive():
                self.kill()
        if done:
            return result
        raise result

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._pipe.close()

    def _too_slow(self) -> Refused:
        self.kill()
        return Refused(
            422, f"it could not be read within {self.seconds:g} s (--decode-seconds); send it simpler", "slow to read"
        )

    def _ended(self) -> Refused:
        process = self._process
        if process is not None:
            process.join(1)
        if process is not None and process.exitcode == -_PROCESSOR_TIME:
            return self._too_slow()
        self.kill()
        return Refused(422, "it could not be read: its decoder crashed", "crashed decoder")


_PROCESSOR_TIME = int(getattr(signal, "SIGPROF", 0))


def read_on(pipe: Connection, seconds: float) -> None:
    """The main function of a process: answer calls until the pipe is closed.

    A call that takes more processor time than ``seconds`` ends it.
    """
    import torch

    import vitrail.serve.reading  # noqa: F401  before the first call, whose time is limited

    show_name()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends this process once all requests are completed
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the server is gone
        pipe.send(None)
        while True:
            function, arguments = pipe.recv()
            _limit(seconds)
            answer = _answer(function, arguments)
            _limit(0)
            pipe.send(answer)


def _limit(seconds: float) -> None:
    if _PROCESSOR_TIME:
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(function: Callable[..., object], arguments: tuple[object, ...]) -> tuple[bool, object]:
    try:
        return True, function(*arguments)
    except (Refused, UserError) as error:
        return False, error
    except MemoryError:
        return False, Refused(413, "it needs more memory than there is", "memory")
    except Exception:  # whatever it is, the request must be completed
        traceback.print_exc()
        return False, RuntimeError("a body could not be read")
