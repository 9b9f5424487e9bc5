"""Names in the query of an address: one that a route does not know is an error, since it would change nothing."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from vitrail.errors import did_you_mean


async def known_names(request: Request) -> None:
    """A dependency of routers; a coroutine, since FastAPI runs plain functions in a thread."""
    route = request.scope.get("route")
    known = _names(route.dependant) if isinstance(route, APIRoute) else set()
    for name in request.query_params:
        if name not in known:
            what = f"; {did_you_mean(name, sorted(known))}" if known else ""
            raise HTTPException(400, f"the query has the unknown name {name!r}{what}")


def _names(dependant: Dependant) -> set[str]:
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*map(_names, dependant.dependencies))
