"""The ASGI application: routes, error handlers and middleware around one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vitrail.errors import UserError
from vitrail.serve import introspection, page, pages, v1, v2
from vitrail.serve.middleware import RequestMiddleware
from vitrail.serve.service import RETRY, Service
from vitrail.serve.worker import WorkerLost
from vitrail.version import __version__

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
STATUSES = {
    400: "The body is malformed.",
    401: "A token is needed.",
    404: "No such model.",
    408: "The body came too slowly.",
    413: "Too large, or too many images.",
    415: "A type or format that is not supported.",
    422: "A damaged image, or a value out of range.",
    503: "The queue is full, or the model is being started; see Retry-After.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in STATUSES.items()
}


def build(service: Service, token: str | None) -> FastAPI:
    """The application. Its lifespan enters ``service``, unless the caller does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    application = FastAPI(
        title="Vitrail",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        exception_handlers={
            HTTPException: _refuse,
            RequestValidationError: _refuse_values,
            UserError: _refuse_option,
            WorkerLost: _lost,
            Exception: _failed,
        },
    )
    application.state.service = service
    for module in (v1, introspection, v2):
        application.include_router(module.router, responses=RESPONSES)
    application.include_router(pages.router, responses={401: RESPONSES[401]})
    application.include_router(page.router)
    application.add_middleware(RequestMiddleware, service=service, token=token)
    return application


async def _refuse(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _refuse_values(_: Request, error: Any) -> JSONResponse:
    texts = (f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return JSONResponse({"error": "; ".join(texts)}, 422)


async def _refuse_option(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 422)


async def _lost(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "the model's process ended; it is being restarted"}, 503, RETRY)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "the server failed; see its log"}, 500)
