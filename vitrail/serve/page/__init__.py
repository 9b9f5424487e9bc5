"""The page at ``/``: plain files that the browser runs as they are, without a build step and without a network."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from vitrail.serve.refusals import Refused

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {
    each.name: (each.read_bytes(), TYPES[suffix])
    for each in (*files(__name__).iterdir(), files("vitrail") / "logo.svg")
    if (suffix := f".{each.name.rpartition('.')[2]}") in TYPES
}
"""Contents and media type by name; nothing else can be requested."""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def start() -> Response:
    """The page itself."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """Style, scripts, icon."""
    return _file(name)


def _file(name: str) -> Response:
    if name not in FILES:
        raise Refused(404, "there is no such file", "no such file")
    contents, kind = FILES[name]
    return Response(contents, media_type=kind)
