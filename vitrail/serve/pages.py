"""Health, metrics, and the way to the documentation of the endpoints."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from vitrail.serve.v1 import CurrentService

router = APIRouter(tags=["server"])


@router.get("/healthz")
async def alive() -> JSONResponse:
    """The server runs."""
    return JSONResponse({"live": True})


@router.get("/readyz", responses={503: {"description": "Not yet, or no longer."}})
async def ready(service: CurrentService) -> JSONResponse:
    """The models are ready."""
    return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)


@router.get("/metrics", response_class=Response)
async def metrics(service: CurrentService) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", status_code=307, response_class=RedirectResponse, responses={307: {"description": "To the page."}})
async def docs() -> RedirectResponse:
    """The page that documents all endpoints and calls them."""
    return RedirectResponse("page/endpoints.html")
