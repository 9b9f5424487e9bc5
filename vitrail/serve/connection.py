"""One HTTP connection: uvicorn's protocol with limits for what comes before a request and after its answer.

Bytes of headers are counted before they are parsed; headers that do not arrive in time, connections that are too many
and answers that nobody fetches end a connection, so that none can be held for nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.tensors import dumped

IDLE = 75.0  # seconds to keep an idle connection, longer than proxies do, which would otherwise use a closed one
LINGER = 2.0  # seconds that a refused client has to read why, and a new or idle one to send when the server ends
MAX_UNREAD = 1_000_000  # bytes that are dropped meanwhile; beyond it nothing more is taken
MAX_REST = 32_000_000  # the same of a body that was refused: many clients read the answer only after they have sent it
TO_FETCH = 30.0  # seconds for an answer to be fetched once it is complete


@dataclass
class Connections:
    """What the connections of a server share.

    Attributes:
        waiting: those without a request in progress, the one that has waited for longest first.
    """

    limits: Limits
    metrics: Metrics
    waiting: OrderedDict[Connection, None] = field(default_factory=OrderedDict)

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> Connection:
        """Called by uvicorn for each connection."""
        return Connection(self, config, server_state, app_state, _loop)


class Connection(HttpToolsProtocol):
    """Args: as uvicorn's, and what all connections share."""

    def __init__(
        self, shared: Connections, config: Config, state: ServerState, app_state: dict[str, Any], loop: Any
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self.shared, self.limits = shared, shared.limits
        self.head = 0  # bytes of the headers that are arriving
        self.in_head, self.begun, self.in_body = True, False, False  # where in a request the last byte was
        self.new = False  # a request began in the bytes that are being parsed
        self.refused, self.ending, self.last = False, False, False
        self.refusal = b""
        self.unread = 0
        self.timer: asyncio.TimerHandle | None = None

    # from the transport -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait(self.limits.header_seconds)
        if len(self.connections) > self.limits.max_connections:
            oldest = next(iter(self.shared.waiting))
            if oldest is self:
                self._refuse(
                    503, f"too many connections (--max-connections {self.limits.max_connections})", "connections"
                )
            else:
                self.shared.metrics.refused("connections")
                oldest.transport.abort()
                oldest.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.parser is None:  # it was ended here already
            return
        self._busy()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return self._drop(len(data))
        size, view = self.limits.max_header, memoryview(data)
        for start in range(0, len(data), size):
            piece = view[start : start + size]
            self.new = False
            super().data_received(piece)  # type: ignore[arg-type]
            if self.refused or self.transport.is_closing() or self.parser is None:
                return None
            if self.in_head and not self.new:  # else some of the piece belongs to the request before
                self.head += len(piece)
                if self.head > size:
                    return self._too_large()
        return None

    # from the parser --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head, self.begun, self.new, self.head, self.unread = True, True, True, 0, 0
        if self._is_answered():
            self._arm(self.limits.header_seconds, self._late)

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        if self._header_bytes() > self.limits.max_header:
            raise ValueError("too large")  # the parser stops, and send_400_response says why
        self._busy()
        super().on_headers_complete()
        self.cycle.transport = _Gentle(self)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._drop(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_head, self.in_body, self.begun, self.head = True, False, False, 0
        super().on_message_complete()
        if self.last:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.begun and not self.in_head and self._header_bytes() > self.limits.max_header:
            return self._too_large()
        return self._refuse(400, "this is no valid HTTP request", "invalid HTTP")

    # from the response ------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._arm(TO_FETCH, self.transport.abort)
        elif self.refused and self._is_answered():
            self._say_why()
        elif self._is_answered():
            self._wait(self.limits.body_seconds if self.in_body else LINGER if self.ending else IDLE)
            if self.begun and self.in_head:
                self._arm(self.limits.header_seconds, self._late)

    def close(self) -> None:
        """Close it after the answer, but not while the client still sends: that would take the answer from it."""
        if self.in_body and not self.refused:
            self.last = True  # the rest of the body is dropped
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The server ends: a request that is on its way is still answered, on a connection that closes then."""
        self.ending = True
        if not self._is_answered():
            self.cycle.keep_alive = False
        elif not self.refused:
            self._arm(LINGER, self.transport.close)

    # ------------------------------------------------------------------------------------------------------------

    def _is_answered(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _wait(self, seconds: float) -> None:
        """Until the next request begins."""
        self.shared.waiting[self] = None
        self.shared.waiting.move_to_end(self)
        self._arm(seconds, self._late)

    def _busy(self) -> None:
        self.shared.waiting.pop(self, None)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _arm(self, seconds: float, then: Callable[[], object]) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(seconds, then)

    def _late(self) -> None:
        if self.transport.get_write_buffer_size() or self.in_body:  # nobody fetches the answer, or sends the rest
            self.transport.abort()
        elif self.begun:
            seconds = self.limits.header_seconds
            self._refuse(408, f"the headers did not arrive within {seconds:g} s (--header-seconds)", "slow headers")
        else:
            self.transport.close()

    def _too_large(self) -> None:
        size = self.limits.max_header
        self._refuse(431, f"the headers have more than {size} bytes (--max-header)", "headers too large")

    def _refuse(self, status: int, text: str, reason: str) -> None:
        """An answer to what never became a request; then the connection is closed, without losing the answer."""
        self.refused = True
        self.shared.metrics.refused(reason)
        body = dumped({"error": text})
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.refusal = STATUS_LINE[status] + head + body
        if self._is_answered():  # else after the answers to the requests before it
            self._say_why()

    def _say_why(self) -> None:
        self.transport.write(self.refusal)
        if self.transport.can_write_eof():
            with suppress(OSError):  # the client has left already
                self.transport.write_eof()
        self._arm(LINGER, self.transport.abort)

    def _drop(self, num_bytes: int) -> None:
        """Bytes that nobody wants; a client that sends on without end is not listened to."""
        self.unread += num_bytes
        if self.unread > (MAX_UNREAD if self.refused else MAX_REST):
            self.flow.pause_reading()
            self._arm(LINGER, self.transport.abort)


class _Gentle:
    """The transport as the one that answers sees it."""

    def __init__(self, connection: Connection) -> None:
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing
        self.close = connection.close
