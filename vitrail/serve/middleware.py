"""The middleware around all routes: who may ask, HEAD, response headers and request metrics."""

from __future__ import annotations

import time

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrail.serve.access import Access
from vitrail.serve.service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
]


class RequestMiddleware:
    """ASGI middleware: requests that may not be made are refused, and every response is counted.

    HEAD is answered as GET, without the body: a route of GET has it, any other says 405 with the methods it has.
    """

    def __init__(self, app: ASGIApp, service: Service, access: Access) -> None:
        self.app, self.service, self.access = app, service, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, answered, method = time.perf_counter(), False, scope["method"]

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            route = getattr(scope.get("route"), "path", "other")
            self.service.metrics.responded(route, method, status, time.perf_counter() - started)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
                close = [(b"connection", b"close")] if self.service.draining else []
                shared = self.access.shared(scope)
                message["headers"] = [*message.get("headers", ()), *HEADERS, *shared, *close]
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        if (refusal := self._unserved(scope)) is not None:
            return await refusal(scope, receive, send_counted)
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: the server's protocol knows that no body follows
        try:
            await self.app(scope, receive, send_counted)
        except Exception:
            if not answered:
                count(500)  # sent by the server around this middleware
            raise

    def _unserved(self, scope: Scope) -> Response | None:
        """The answer to a preflight, or to a request that may not be made."""
        refused = None if self.access.is_preflight(scope) else self.access.refusal(scope)
        if refused is not None:
            self.service.metrics.refused(refused.reason)
            return JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)
        if not self.access.is_preflight(scope):
            return None
        preflight = Response(status_code=204)
        preflight.raw_headers += self.access.permitted(scope)
        return preflight
