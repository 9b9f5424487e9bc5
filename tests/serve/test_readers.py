"""Processes that read bodies: slow ones are cut off, crashes are answered, and the next call is served."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from calls import add, complain, crash, fail, number, refuse, rest, spin
from in_process import forking

from vitrail.errors import UserError
from vitrail.serve import readers as module
from vitrail.serve.readers import Readers
from vitrail.serve.refusals import Refused


def run(conversation, seconds=0.5):
    forking()

    async def main():
        readers = Readers(seconds)
        try:
            await readers(add, 1, 2)  # started
            return await conversation(readers)
        finally:
            readers.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("slow", "reason", "words"),
    [
        (spin, "slow to read", "could not be read within 0.5 s (--decode-seconds)"),
        (rest, "slow to read", "could not be read within 0.5 s (--decode-seconds)"),
        (crash, "crashed decoder", "its decoder crashed"),
    ],
)
def test_what_takes_too_long_or_crashes_is_cut_off(slow, reason, words, monkeypatch):
    monkeypatch.setattr(module, "BY_THE_CLOCK", 5)

    async def conversation(readers):
        process = await readers(number)
        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            await readers(slow)
        taken = time.monotonic() - began
        gone = not Path(f"/proc/{process}/fd").exists() or await readers(number) != process
        return refused.value, taken, gone, await readers(add, 3, 4)

    refused, taken, gone, result = run(conversation)
    assert (refused.status_code, refused.reason) == (422, reason)
    assert words in refused.detail
    assert taken < 10
    assert gone
    assert result == 7


def test_errors_arrive_as_they_were_raised(capfd):
    async def conversation(readers):
        found = []
        for each in (refuse, complain, fail):
            try:
                await readers(each)
            except Exception as error:
                found.append(error)
        return found

    refused, complained, failed = run(conversation)
    assert (refused.status_code, refused.detail, refused.reason) == (413, "too much", "body too large")
    assert refused.headers == {"A": "b"}
    assert (type(complained), str(complained)) == (UserError, "choose another")
    assert (type(failed), str(failed)) == (RuntimeError, "a body could not be read")


def test_who_stops_waiting_leaves_the_reader_to_finish():
    async def conversation(readers):
        waiting = asyncio.create_task(readers(time.sleep, 0.3))
        await asyncio.sleep(0.05)
        waiting.cancel()
        return await asyncio.gather(*(readers(add, i, i) for i in range(6)))

    assert run(conversation, seconds=5) == [0, 2, 4, 6, 8, 10]


def test_bulky_calls_leave_a_reader_to_the_others():
    async def conversation(readers):
        await readers.start()
        await asyncio.gather(*(readers(add, i, i) for i in range(2)))
        bulky = [asyncio.create_task(readers.bulky(time.sleep, 1)) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await readers(add, 1, 1)
        taken = time.monotonic() - began
        await asyncio.gather(*bulky)
        return taken

    assert run(conversation, seconds=5) < 0.9


def test_processes_end_with_the_service():
    async def conversation(readers):
        return await readers(number)

    process = run(conversation)
    end = time.monotonic() + 5
    while Path(f"/proc/{process}/status").exists() and "zombie" not in Path(f"/proc/{process}/status").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
