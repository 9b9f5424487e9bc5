"""Micro-batches: images of several requests are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # batches in flight: one is computed while the next is transferred


@dataclass
class _Entry(Generic[T, R]):
    item: T
    result: asyncio.Future[R]
    deadline: float


@dataclass
class Batcher(Generic[K, T, R]):
    """``await batcher(key, item)`` gives the result of ``item`` in a batch of items with the same ``key``.

    A full batch is sent immediately, so that the next one is ready when the model is done. A batch that is not full is
    sent when the model is idle and its first item has waited ``wait`` seconds. Of several keys, the one with the oldest
    item goes first. The length of the queue is not limited here but by the service's slots.

    Attributes:
        run: computes a batch; what it raises goes to all items of the batch.
        size: of a batch, by its key.
        fatal: errors of ``run`` that fail all queued items too.
    """

    run: Callable[[K, list[T]], Awaitable[list[R]]]
    size: Callable[[K], int]
    wait: float
    fatal: type[Exception] = field(default=ConnectionError)

    def __post_init__(self) -> None:
        self._lanes: dict[K, deque[_Entry[T, R]]] = {}
        self._changed = asyncio.Event()
        self._batches: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Items that wait for their batch to be sent."""
        return sum(map(len, self._lanes.values()))

    async def __call__(self, key: K, item: T) -> R:
        loop = asyncio.get_running_loop()
        entry: _Entry[T, R] = _Entry(item, loop.create_future(), loop.time() + self.wait)
        self._lanes.setdefault(key, deque()).append(entry)
        self._changed.set()
        return await entry.result

    async def dispatch(self) -> None:
        """Send batches until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            if (key := self._next(clock())) is not None:
                self._launch(key)
                continue
            due = min((lane[0].deadline for lane in self._lanes.values()), default=None)
            pause = None if due is None or self._batches else max(0.0, due - clock())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)

    def _next(self, now: float) -> K | None:
        """The key whose batch is due, or None."""
        if len(self._batches) >= AHEAD:
            return None
        by_age = sorted(self._lanes, key=lambda key: self._lanes[key][0].deadline)
        for key in by_age:
            lane = self._lanes[key]
            if len(lane) >= self.size(key) or (not self._batches and lane[0].deadline <= now):
                return key
        return None

    def _launch(self, key: K) -> None:
        lane = self._lanes[key]
        batch = [lane.popleft() for _ in range(min(self.size(key), len(lane)))]
        if not lane:
            del self._lanes[key]
        if batch := [entry for entry in batch if not entry.result.done()]:  # the others were cancelled
            task = asyncio.create_task(self._compute(key, batch))
            self._batches.add(task)

    async def _compute(self, key: K, batch: list[_Entry[T, R]]) -> None:
        try:
            results = await self.run(key, [entry.item for entry in batch])
            for entry, result in zip(batch, results, strict=True):
                if not entry.result.done():
                    entry.result.set_result(result)
        except Exception as error:
            queued = [entry for lane in self._lanes.values() for entry in lane] if isinstance(error, self.fatal) else []
            if queued:
                self._lanes.clear()
            for entry in batch + queued:
                if not entry.result.done():
                    entry.result.set_exception(error)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._batches.discard(task)
            self._changed.set()
