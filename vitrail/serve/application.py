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
from vitrail.serve.access import Access
from vitrail.serve.middleware import RequestMiddleware
from vitrail.serve.refusals import RETRY, Refused
from vitrail.serve.service import Service
from vitrail.serve.worker import WorkerLost
from vitrail.version import __version__

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
STATUSES = {
    400: "The body is malformed.",
    401: "A token is needed.",
    403: "A page of another site asks, whose origin is not allowed.",
    404: "No such model.",
    408: "The headers or the body came too slowly.",
    413: "Too large, or too many images or JSON values.",
    415: "A type or format that is not supported.",
    421: "The server is asked under another name than its own.",
    422: "A damaged image, one that takes too long to decode, or a value out of range.",
    431: "The headers are too large.",
    503: "The queue is full, or the model is being started; see Retry-After.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in STATUSES.items()
}


def build(service: Service, token: str | None = None, access: Access | None = None) -> FastAPI:
    """The application. Its lifespan enters ``service``, unless the caller does.

    Args:
        access: who may ask; default: everybody who has the ``token``.
    """

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
            Refused: _refuse,
            HTTPException: _no_route,
            RequestValidationError: _refuse_values,
            UserError: _refuse_option,
            WorkerLost: _lost,
            Exception: _failed,
        },
    )
    application.state.service = service
    for module in (v1, introspection, v2):
        application.include_router(module.router, responses=RESPONSES)
    application.include_router(pages.router, responses={status: RESPONSES[status] for status in (400, 401, 403, 421)})
    application.include_router(page.router)
    application.add_middleware(RequestMiddleware, service=service, access=access or Access(token=token))
    return application


async def _refuse(request: Request, error: Any) -> JSONResponse:
    _count(request, error.reason)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _no_route(_: Request, error: Any) -> JSONResponse:
    if error.status_code == 404:
        return JSONResponse({"error": "there is no such route; see /docs"}, 404)
    if error.status_code == 405:
        methods = error.headers["Allow"]
        return JSONResponse({"error": f"this route takes {methods} only"}, 405, error.headers)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _refuse_values(request: Request, error: Any) -> JSONResponse:
    _count(request, "option")
    texts = (f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return JSONResponse({"error": "; ".join(texts)}, 422)


async def _refuse_option(request: Request, error: Exception) -> JSONResponse:
    _count(request, "option")
    return JSONResponse({"error": str(error)}, 422)


async def _lost(request: Request, __: Exception) -> JSONResponse:
    _count(request, "model lost")
    return JSONResponse({"error": "the model's process ended; it is being restarted"}, 503, RETRY)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "the server failed; see its log"}, 500)


def _count(request: Request, reason: str) -> None:
    service: Service = request.app.state.service
    service.metrics.refused(reason)
