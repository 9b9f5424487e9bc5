"""What the routes share: the models behind their batcher, the slots of the queue, and the decoding threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, cast

import numpy as np
from starlette.exceptions import HTTPException

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import did_you_mean
from vitrail.serve.batcher import Batcher
from vitrail.serve.jobs import Job
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.worker import JobBatch, ServedModel, Worker, WorkerLost

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
Key: TypeAlias = tuple[str, Job[Any]]
"""Model and job, which all images of a batch share."""
Fitted: TypeAlias = tuple[np.ndarray, ImageGeometry]
"""An image at a model's input size, uint8 (C, H, W), and where that lies in it."""

DECODERS = 2  # threads; the other cores are for the models
RETRY = {"Retry-After": "1"}  # seconds


class Service:
    """``async with Service(worker, limits) as service: await service.compute(...)``."""

    def __init__(self, worker: Worker, limits: Limits) -> None:
        self.worker, self.limits, self.metrics = worker, limits, Metrics()
        self.draining = False
        self.taken = 0
        self.batcher: Batcher[Key, Fitted, object] = Batcher(
            self._compute, limits.batch_size, limits.batch_wait, WorkerLost
        )
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")
        gauge = self.metrics.gauge
        gauge("vitrail_accepted_images", "Images accepted and not completed yet.", lambda: self.taken)
        gauge("vitrail_queued_images", "Of these, images that wait for a batch.", lambda: len(self.batcher))
        gauge("vitrail_ready", "1: accepts requests.", lambda: self.ready)
        gauge("vitrail_model_restarts", "Restarts of the models' process.", lambda: worker.restarts)

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
        """The models are loaded and the server is not shutting down."""
        return self.worker.up and not self.draining

    def model(self, name: str | None) -> ServedModel:
        """The model of that name; the first one by default.

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
    def queue_slot(self) -> Iterator[QueueSlot]:
        """A slot in the queue for one image.

        Raises:
            HTTPException: 503 if there is none, or no model.
        """
        if not self.worker.up:
            self.metrics.refused("not ready")
            raise HTTPException(503, "the model is being started; try again", RETRY)
        slot = QueueSlot(self)
        try:
            slot.reserve(1)
            yield slot
        finally:
            self.taken -= slot.images

    async def in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a slow function, such as decoding, in a thread outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    async def compute(self, model: str, job: Job[R], images: Sequence[Fitted]) -> list[R]:
        """One result of the job an image.

        Raises:
            WorkerLost, UserError, RuntimeError: as the worker.
        """
        results = await asyncio.gather(*(self.batcher((model, job), image) for image in images))
        return cast("list[R]", results)

    async def _compute(self, key: Key, images: list[Fitted]) -> list[object]:
        model, job = key
        started = time.perf_counter()
        pixels, geometries = zip(*images, strict=True)
        results = await self.worker(JobBatch(model, job, np.stack(pixels), geometries))
        self.metrics.computed(model, job.kind, len(images), time.perf_counter() - started)
        return results


class QueueSlot:
    """The part of the queue that a request holds, in images."""

    def __init__(self, service: Service) -> None:
        self.service, self.images = service, 0

    def reserve(self, images: int) -> None:
        """Hold room for so many images in all.

        Raises:
            HTTPException: 503 if the queue has less room.
        """
        more = max(0, images - self.images)
        if self.service.taken + more > self.service.limits.queue_size:
            self.service.metrics.refused("queue full")
            raise HTTPException(503, "the queue is full; try again", RETRY)
        self.service.taken += more
        self.images += more
