"""A server and its client in this process, the models too."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx

from vitrail.serve.application import build
from vitrail.serve.limits import Limits
from vitrail.serve.service import Service
from vitrail.serve.worker import describe, perform


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

    async def __call__(self, job):
        self.sizes.append(len(job.pixels))
        await self.open.wait()
        return perform(self.predictors[job.model], job)


@asynccontextmanager
async def speaking(predictors, token=None, **limits):
    """A client of a server with these predictors by name, and its service."""
    service = Service(InProcess(predictors), Limits(**limits))
    transport = httpx.ASGITransport(build(service, token))
    async with service, httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client, service
