"""The middleware around all routes: token check, response headers and request metrics."""

from __future__ import annotations

import hmac
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrail.serve.service import Service

OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/")
"""Paths that need no token."""
OPEN_BELOW = "/page/"  # files of the page, which hold nothing of the models; the page requests the token from the user
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
]


class RequestMiddleware:
    """ASGI middleware: requests without the token are refused, and every response is counted.

    Args:
        token: required in ``Authorization: Bearer``; None: no check.
    """

    def __init__(self, app: ASGIApp, service: Service, token: str | None) -> None:
        self.app, self.service = app, service
        self.expected = None if token is None else f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, answered = time.perf_counter(), False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            route = getattr(scope.get("route"), "path", "other")
            self.service.metrics.responded(route, scope["method"], status, time.perf_counter() - started)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
                close = [(b"connection", b"close")] if self.service.draining else []
                message["headers"] = [*message.get("headers", ()), *HEADERS, *close]
            await send(message)

        if not self._is_allowed(scope):
            refusal = JSONResponse({"error": "a token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send_counted)
        try:
            await self.app(scope, receive, send_counted)
        except Exception:
            if not answered:
                count(500)  # sent by the server around this middleware
            raise

    def _is_allowed(self, scope: Scope) -> bool:
        if self.expected is None or scope["path"] in OPEN or scope["path"].startswith(OPEN_BELOW):
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self.expected)
