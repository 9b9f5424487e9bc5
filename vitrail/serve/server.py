"""Runs the application on one listening socket, with a graceful shutdown."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
from contextlib import suppress
from types import FrameType
from typing import cast

import uvicorn

from vitrail.console import note, warn
from vitrail.errors import UserError
from vitrail.serve.access import Access
from vitrail.serve.application import build
from vitrail.serve.connection import IDLE, Connections
from vitrail.serve.service import Service

GRACE = 60  # seconds for accepted requests to be completed after the listening ends
BACKLOG_SECONDS = 0.05  # for connections that were made before the listening ended to be accepted
OTHER_FILES = 128  # that a server has open beside its connections
PORTS = range(65536)
ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which Python does not name


def run(service: Service, access: Access, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address is none or taken, or a model cannot be loaded.
    """
    _allow_files(service.limits.max_connections + OTHER_FILES)
    asyncio.run(_run(service, access, _bind(host, port)))


def configured(service: Service, access: Access) -> uvicorn.Config:
    """The settings of uvicorn for a service."""
    return uvicorn.Config(
        build(service, access=access),
        http=cast("type[asyncio.Protocol]", Connections(service.limits, service.metrics).protocol),
        lifespan="off",
        ws="none",
        log_level="error",  # invalid requests are counted, not logged
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=int(IDLE),
    )


async def _run(service: Service, access: Access, listener: socket.socket) -> None:
    with listener:
        async with service:
            await _Server(configured(service, access), service).serve([listener])


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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections that are made but not accepted yet would be reset with the listening socket."""
        for listener in sockets or ():
            _let_nobody_in(listener)
        await asyncio.sleep(BACKLOG_SECONDS)
        await super().shutdown(sockets)


def _let_nobody_in(listener: socket.socket) -> None:
    """Drop attempts to connect, where the system can; those that were made remain."""
    if sys.platform == "linux":
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop)))


def _allow_files(number: int) -> None:
    """Raise the limit of open files, where the system lets it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < number:
        warn(
            f"{hard} files may be open, too few for --max-connections {number - OTHER_FILES}; lower this or raise that"
        )


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet, so that no client connects before the models are loaded."""
    if port not in PORTS:
        raise UserError(f"there is no port {port}; choose one from 0 to {PORTS[-1]}, 0 for a free one")
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
