"""Health, metrics, and two small pages for people, written here so that they work without a network."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from vitrail.serve.v1 import TheService

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f4f4f6; padding: .1em .3em; overflow-x: auto }
pre { padding: .8em } h2 { margin-top: 2em } td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { background: #18181b; color: #ddd } code, pre { background: #27272a } }
"""

router = APIRouter(tags=["server"])


@router.get("/healthz")
async def alive() -> JSONResponse:
    """The server runs."""
    return JSONResponse({"live": True})


@router.get("/readyz", responses={503: {"description": "Not yet, or no longer."}})
async def ready(service: TheService) -> JSONResponse:
    """The models can be asked."""
    return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)


@router.get("/metrics", response_class=Response)
async def metrics(service: TheService) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", response_class=HTMLResponse)
async def start(request: Request, service: TheService) -> HTMLResponse:
    """What is served here."""
    models = "".join(
        f"<tr><td><code>{escape(each.name)}</code><td>{escape(each.task)}<td>{len(each.classes)} classes"
        f"<td>{each.pixels} pixels"
        for each in service.worker.served.values()
    )
    endpoints = "".join(
        f"<tr><td><code>{method} {escape(path)}</code><td>{escape(operation['description'])}"
        for path, method, operation in _operations(request)
    )
    return _page(
        "Vitrail",
        f"<h2>Models</h2><table>{models}</table><h2>Endpoints</h2><table>{endpoints}</table>"
        '<p>How to call them: <a href="docs">docs</a>; for machines: <a href="openapi.json">openapi.json</a>.',
    )


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """The endpoints in detail."""
    sections = "".join(_section(*operation) for operation in _operations(request))
    example = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://HOST:PORT/v1/predict"
    return _page("Vitrail: endpoints", f"<pre>{example}</pre>{sections}")


def _operations(request: Request) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    return [
        (path, method.upper(), operation) for path, methods in paths.items() for method, operation in methods.items()
    ]


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{each['in']}<td>{escape(each.get('description', ''))}"
        for each in operation.get("parameters", ())
    )
    bodies = ", ".join(f"<code>{kind}</code>" for kind in operation.get("requestBody", {}).get("content", ()))
    body = f"<p>Body: {bodies}" if bodies else ""
    text = escape(operation["description"])
    return f"<h2><code>{method} {escape(path)}</code></h2><p>{text}{body}<table>{rows}</table>"


def _page(title: str, body: str) -> HTMLResponse:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return HTMLResponse(f'<!doctype html><html lang="en">{head}<style>{STYLE}</style><h1>{title}</h1>{body}</html>')
