"""Health, metrics, and the documentation of the endpoints, rendered here so that it works offline."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from vitrail.serve.v1 import CurrentService

EXAMPLE = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://HOST:PORT/v1/predict"

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


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """The documentation of all endpoints."""
    sections = "".join(_section(*operation) for operation in _operations(request))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Vitrail: endpoints</title><link rel="icon" href="page/logo.svg">'
        '<link rel="stylesheet" href="page/page.css">'
    )
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head>{head}</head><body class="endpoints"><header><div class="brand">'
        '<img src="page/logo.svg" alt="" width="36" height="36"><h1>Vitrail: endpoints</h1></div>'
        '<a href="./">The page</a></header>'
        f"<main><pre>{EXAMPLE}</pre>{sections}</main></body></html>"
    )


def _operations(request: Request) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    return [
        (path, method.upper(), operation) for path, methods in paths.items() for method, operation in methods.items()
    ]


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{escape(_about(each))}"
        for each in operation.get("parameters", ())
    )
    bodies = ", ".join(f"<code>{kind}</code>" for kind in operation.get("requestBody", {}).get("content", ()))
    body = f'<p class="muted">Body: {bodies}</p>' if bodies else ""
    text = escape(operation["description"])
    heading = f"<h2>{method} {escape(path)}</h2>"
    return f'<section class="card">{heading}<p>{text}</p>{body}<table>{rows}</table></section>'


def _about(parameter: dict[str, Any]) -> str:
    """A parameter's description, choices and default."""
    schema = parameter["schema"]
    choices = f"one of {', '.join(schema['enum'])}" if "enum" in schema else ""
    default = f"default {schema['default']}" if "default" in schema else ""
    return "; ".join(filter(None, (parameter.get("description", "").rstrip("."), choices, default)))
