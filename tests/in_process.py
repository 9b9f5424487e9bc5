"""A server and its client in this process, the models too."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import httpx
import torch
import uvicorn

from vitrail.serve.access import Access
from vitrail.serve.application import build
from vitrail.serve.limits import Limits
from vitrail.serve.readers import _Reader
from vitrail.serve.server import configured
from vitrail.serve.service import Service
from vitrail.serve.worker import describe


class InProcess:
    """Stands for the worker, without its process; ``open`` lets answers out."""

    restarts = 0

    def __init__(self, predictors):
        self.predictors, self.up, self.open, self.sizes = predictors, False, asyncio.Event(), []
        self.served = {name: describe(name, predictor) for name, predictor in predictors.items()}
        self.open.set()

    async def __aenter__(self):
        self.up = True

    async def __aexit__(self, *_):
        self.up = False

    async def __call__(self, batch):
        self.sizes.append(len(batch.pixels))
        await self.open.wait()
        return batch.job.run(self.predictors[batch.model], torch.from_numpy(batch.pixels), batch.geometries)


@functools.cache
def forking():
    """Start what forks the processes that read, whose imports would count as a test's own time."""
    reader = _Reader(1.0)
    reader.start()
    reader.kill()


@asynccontextmanager
async def speaking(predictors, token=None, access=None, **limits):
    """A client of a server with these predictors by name, and its service."""
    forking()
    service = Service(InProcess(predictors), Limits(**limits))
    transport = httpx.ASGITransport(build(service, token, access))
    async with service, httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, service


@contextmanager
def listening(predictors, token=None, origins=(), **limits):
    """The address of a server with these predictors by name, on a free port, its loop in a thread."""
    with listening_service(predictors, token, origins, **limits) as (url, _):
        yield url


@contextmanager
def listening_service(predictors, token=None, origins=(), **limits):
    """As :func:`listening`, with its service."""
    forking()
    service = Service(InProcess(predictors), Limits(**limits))
    config = configured(service, Access.listening("127.0.0.1", (), origins, token))
    config.port, config.lifespan = 0, "on"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        (listener,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", service
    finally:
        server.should_exit = True
        thread.join()
