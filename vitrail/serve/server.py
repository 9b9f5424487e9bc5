"""Runs the application on one listening socket, with a graceful shutdown."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import uvicorn

from vitrail.console import note
from vitrail.errors import UserError
from vitrail.serve.application import build
from vitrail.serve.service import Service

GRACE = 60  # seconds for accepted requests to be completed after the listening ends
IDLE = 75  # seconds to keep an idle connection, longer than proxies do, which would otherwise use a closed one


def run(service: Service, token: str | None, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address is taken, or a model cannot be loaded.
    """
    asyncio.run(_run(service, token, _bind(host, port)))


async def _run(service: Service, token: str | None, listener: socket.socket) -> None:
    with listener:
        async with service:
            config = uvicorn.Config(
                build(service, token),
                http="httptools",  # a third less work than h11 for a refused request
                lifespan="off",
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE,
                timeout_keep_alive=IDLE,
            )
            await _Server(config, service).serve([listener])


class _Server(uvicorn.Server):
    """On a signal it reports "not ready", keeps listening for ``drain`` seconds, then completes accepted requests."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for model in self.service.worker.served.values():
            note(f"model {model.name}: {model.task}, {model.parameters:,} parameters, {model.pixels} pixels")
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            note(f"serving at http://{f'[{host}]' if ':' in host else host}:{port} (end with Ctrl-C)")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(self._end, loop)  # a signal handler may run at any point

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.service.draining:
            self._stop_listening()  # a second signal ends the listening immediately
            return
        self.service.draining = True
        note("shutting down; answering accepted requests")
        loop.call_later(self.service.limits.drain, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet, so that no client connects before the models are loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on {host}:{port} ({reason.lower()}); choose another --host or --port") from None
    return listener
