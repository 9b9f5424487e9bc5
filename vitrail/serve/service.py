"""What the routes share: the models behind their batcher, the slots of the queue, and the processes that read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, cast

import numpy as np

from vitrail.errors import did_you_mean
from vitrail.serve.batcher import Batcher
from vitrail.serve.jobs import Job
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.readers import Readers
from vitrail.serve.reading import Fitted
from vitrail.serve.refusals import Refused, busy
from vitrail.serve.worker import JobBatch, ServedModel, Worker, WorkerLost

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
Key: TypeAlias = tuple[str, Job[Any], tuple[int, ...]]
"""Model and job, which all images of a batch share."""

WRITERS = 2  # threads that make answers of results


class Service:
    """``async with Service(worker, limits) as service: await service.compute(...)``.

    Args:
        warm: start the processes that read with the service, not with the first request.
    """

    def __init__(self, worker: Worker, limits: Limits, warm: bool = False) -> None:
        self.worker, self.limits, self.metrics = worker, limits, Metrics()
        self.readers, self._warm = Readers(limits.decode_seconds), warm
        self.draining = False
        self.taken, self.held = 0, 0
        self.batcher: Batcher[Key, Fitted, object] = Batcher(
            self._compute, self._batch_size, limits.batch_wait, WorkerLost
        )
        self._writers = ThreadPoolExecutor(WRITERS, "writer")
        gauge = self.metrics.gauge
        gauge("vitrail_accepted_images", "Images accepted and not completed yet.", lambda: self.taken)
        gauge("vitrail_queued_images", "Of these, images that wait for a batch.", lambda: len(self.batcher))
        gauge("vitrail_body_bytes", "Of bodies that arrive or wait.", lambda: self.held)
        gauge("vitrail_ready", "1: accepts requests.", lambda: self.ready)
        gauge("vitrail_model_restarts", "Restarts of the models' process.", lambda: worker.restarts)

    async def __aenter__(self) -> Service:
        """Raises UserError: a model cannot be loaded."""
        async with AsyncExitStack() as stack:
            stack.callback(self.readers.close)
            starting = asyncio.create_task(self.readers.start()) if self._warm else None
            await stack.enter_async_context(self.worker)
            if starting is not None:
                await starting
            dispatching = asyncio.create_task(self.batcher.dispatch())
            stack.callback(self._writers.shutdown, wait=False)
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
            Refused: 404.
        """
        served = self.worker.served
        if name is None:
            return next(iter(served.values()))
        if name not in served:
            raise Refused(404, f"there is no model {name!r}; {did_you_mean(name, served)}", "no such model")
        return served[name]

    @contextmanager
    def queue_slot(self) -> Iterator[QueueSlot]:
        """A request's share of the queue and of the memory for bodies: nothing yet, but given back at the end.

        Raises:
            Refused: 503 if the queue is full already, or there is no model.
        """
        if not self.worker.up:
            raise busy("the model is being started", "not ready")
        slot = QueueSlot(self)
        slot.require_room()
        try:
            yield slot
        finally:
            slot.give_back()

    async def in_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Make an answer of a result in a thread outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, function, *arguments)

    async def compute(self, model: str, job: Job[R], images: Sequence[Fitted]) -> list[R]:
        """One result of the job an image.

        Raises:
            WorkerLost, UserError, RuntimeError: as the worker.
        """
        results = await asyncio.gather(*(self.batcher((model, job, image[0].shape), image) for image in images))
        return cast("list[R]", results)

    def _batch_size(self, key: Key) -> int:
        """Pictures in their own size are computed one by one: each may take as long as a batch of others."""
        return 1 if self.worker.served[key[0]].sees_own_size else self.limits.batch_size

    async def _compute(self, key: Key, images: list[Fitted]) -> list[object]:
        model, job, _ = key
        started = time.perf_counter()
        pixels, geometries = zip(*images, strict=True)
        results = await self.worker(JobBatch(model, job, np.stack(pixels), geometries))
        self.metrics.computed(model, job.kind, len(images), time.perf_counter() - started)
        return results


class QueueSlot:
    """What a request holds: places for its images, once its body is there, and the bytes of the body from the first on.

    So whoever sends slowly takes no place from the others, and memory stays bounded all the same.
    """

    def __init__(self, service: Service) -> None:
        self.service, self.images, self.bytes = service, 0, 0

    def require_room(self) -> None:
        """Raises Refused 503: there is no place for a single image, so that its body need not be read."""
        if self.service.taken >= self.service.limits.queue_size:
            raise _full()

    def hold(self, num_bytes: int) -> None:
        """Count bytes of the body.

        Raises:
            Refused: 503 the bodies of all requests are too many bytes.
        """
        if self.service.held + num_bytes > self.service.limits.body_bytes:
            raise busy("too many bodies arrive at a time (--queue × --max-body bytes)", "too many bodies")
        self.service.held += num_bytes
        self.bytes += num_bytes

    def reserve(self, images: int) -> None:
        """Hold places for so many images in all.

        Raises:
            Refused: 503 if the queue has less room.
        """
        more = max(0, images - self.images)
        if self.service.taken + more > self.service.limits.queue_size:
            raise _full()
        self.service.taken += more
        self.images += more

    def give_back(self) -> None:
        """Hold nothing any longer."""
        self.service.taken -= self.images
        self.service.held -= self.bytes
        self.images = self.bytes = 0


def _full() -> Refused:
    return busy("the queue is full", "queue full")
