"""What the routes share: the models behind their batcher, the places in the queue, the threads that decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
from starlette.exceptions import HTTPException

from vitrail.errors import did_you_mean
from vitrail.serve.batcher import Batcher
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.worker import Job, Kind, Served, Worker, WorkerLost

T = TypeVar("T")
Key: TypeAlias = tuple[str, Kind, tuple[tuple[str, Any], ...]]
"""Model, kind and options: what a batch has in common."""

DECODERS = 2  # threads; the models want the other cores
RETRY = {"Retry-After": "1"}  # seconds


class Service:
    """``async with Service(worker, limits) as service: await service.compute(...)``."""

    def __init__(self, worker: Worker, limits: Limits) -> None:
        self.worker, self.limits, self.metrics = worker, limits, Metrics()
        self.draining = False
        self.taken = 0
        self.batcher: Batcher[Key] = Batcher(self._compute, limits.batch_size, limits.batch_wait, WorkerLost)
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")
        gauge = self.metrics.gauge
        gauge("vitrail_accepted_images", "Images accepted and not answered yet.", lambda: self.taken)
        gauge("vitrail_queued_images", "Of these, images that wait for a batch.", lambda: len(self.batcher))
        gauge("vitrail_ready", "1: accepts requests.", lambda: self.ready)
        gauge("vitrail_model_restarts", "How often the models had to be started again.", lambda: worker.restarts)

    async def __aenter__(self) -> Service:
        """Raises UserError: a model cannot be loaded."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.worker)
            dispatching = asyncio.create_task(self.batcher.dispatch())
            stack.callback(self._decoders.shutdown, wait=False)
            stack.callback(dispatching.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.draining = True
        await self._stack.aclose()

    @property
    def ready(self) -> bool:
        """The models are there, and no end is in sight."""
        return self.worker.up and not self.draining

    def model(self, name: str | None) -> Served:
        """The model of that name; the first one where none is said.

        Raises:
            HTTPException: 404.
        """
        served = self.worker.served
        if name is None:
            return next(iter(served.values()))
        if name not in served:
            raise HTTPException(404, f"there is no model {name!r}; {did_you_mean(name, served)}")
        return served[name]

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue for one image.

        Raises:
            HTTPException: 503 if there is none, or no model.
        """
        if not self.worker.up:
            self.metrics.refused("not ready")
            raise HTTPException(503, "the model is being started; try again", RETRY)
        place = Place(self)
        try:
            place.need(1)
            yield place
        finally:
            self.taken -= place.images

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what takes a while, such as decoding, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    async def compute(
        self, model: str, kind: Kind, images: Sequence[np.ndarray], options: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """One result an image, as :func:`vitrail.serve.worker.perform` gives them.

        Args:
            images: uint8 (C, H, W) each, at the model's input size.

        Raises:
            WorkerLost, UserError, RuntimeError: as the worker.
        """
        key = (model, kind, tuple(sorted((options or {}).items())))
        return list(await asyncio.gather(*(self.batcher(key, image) for image in images)))

    async def _compute(self, key: Key, images: list[np.ndarray]) -> list[Any]:
        model, kind, options = key
        started = time.perf_counter()
        results = await self.worker(Job(model, kind, np.stack(images), dict(options)))
        self.metrics.computed(model, kind, len(images), time.perf_counter() - started)
        return results


class Place:
    """The places that a request has in the queue."""

    def __init__(self, service: Service) -> None:
        self.service, self.images = service, 0

    def need(self, images: int) -> None:
        """Have places for so many images in all.

        Raises:
            HTTPException: 503 if there are not as many left.
        """
        more = max(0, images - self.images)
        if self.service.taken + more > self.service.limits.places:
            self.service.metrics.refused("queue full")
            raise HTTPException(503, "the queue is full; try again", RETRY)
        self.service.taken += more
        self.images += more
