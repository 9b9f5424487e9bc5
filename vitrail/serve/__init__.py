"""Serving: models behind HTTP, in bounded time and memory.

One process handles HTTP, two more parse, decode and resize, and one holds the models and computes in batches. A request
passes these files in this order: ``connection`` (headers), ``middleware`` with ``access`` (who may ask, metrics),
``v1`` or ``v2`` (routes), ``service`` (what a request may hold), ``requests`` (its body), ``readers`` and ``reading``
(to pixels, in another process), ``batcher``, ``worker``, and a file of ``jobs`` in the models' process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from vitrail.console import note, warn
from vitrail.errors import UserError
from vitrail.registry import submodules
from vitrail.serve.limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vitrail.serve.service import Service
    from vitrail.serve.worker import Load

NAME = re.compile(r"\w[\w.-]*", re.ASCII)
NAMED = re.compile(rf"(?P<name>{NAME.pattern})=(?P<path>.+)", re.ASCII)
FILES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
GENERIC = ("weights", "soup", "best", "last", "model", "/")  # names of files and folders that do not name a model


def app(
    models: str | Sequence[str] | Mapping[str, str],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    load: Load | None = None,
    allow_host: Sequence[str] = ("*",),
    allow_origin: Sequence[str] = (),
) -> FastAPI:
    """The ASGI application, for a server of your own; it starts and ends the models' process.

    The process imports the program that calls this, which needs an ``if __name__ == "__main__"``.

    Args:
        models: run folders, weights files or ``hf://`` addresses, also as ``name=path``; or path by name.
        token: required from clients as ``Authorization: Bearer``.
        load: from a path to a predictor, in the models' process; default :func:`vitrail.load`.
        allow_host: names under which the server may be asked; any by default, since the server around it knows them.
        allow_origin: origins of web pages that may use it, as ``https://app.example``; ``*``: of all.

    Raises:
        UserError: two models of one name, a token, host or origin that cannot be, or a library is missing.
    """
    service = _service(models, limits or Limits(), load)
    from vitrail.serve.access import Access
    from vitrail.serve.application import build

    return build(service, access=Access(tuple(allow_host), tuple(allow_origin), token))


def serve(
    models: str | Sequence[str] | Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    token: str | None = None,
    load: Load | None = None,
    allow_host: Sequence[str] = (),
    allow_origin: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or Ctrl-C. Arguments as :func:`app`; port 0 takes a free one, which is printed.

    Args:
        allow_host: names under which it may be asked, beside IP addresses, ``localhost`` and ``host``; ``*``: any.

    Raises:
        UserError: a model cannot be loaded, the address is none or taken, or as :func:`app`.
    """
    limits = limits or Limits()
    service = _service(models, limits, load)
    from vitrail.serve.access import Access
    from vitrail.serve.server import run

    access = Access.listening(host, allow_host, allow_origin, token)

    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        warn(f"everybody who reaches {host} can use this server; require a token with --token-file or VITRAIL_TOKEN")
    for line in _resolved(limits):
        note(line)
    if token is None and "*" in allow_origin:
        warn("every web page can use this server; name origins with --allow-origin, or require a token")
    run(service, access, host, port)


def named(models: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Path by name. The default name of a model is that of its run folder or file.

    Raises:
        UserError: two models of one name, or a name that does not fit into a URL.
    """
    if isinstance(models, Mapping):
        pairs = list(models.items())
    else:
        texts = [models] if isinstance(models, str) else list(models)
        pairs = [(m["name"], m["path"]) if (m := NAMED.fullmatch(text)) else (_name(text), text) for text in texts]
    found = dict(pairs)
    if not pairs or len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        raise UserError(f"two models are called {twice!r}; write NAME=PATH" if twice else "no model was named")
    for name in found:
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} does not fit into a URL; write NAME=PATH with letters, digits, '-', '_', '.'")
    return found


def _name(path: str) -> str:
    place = PurePath(path)
    parts = (place.with_suffix("") if place.suffix in FILES else place).parts
    return next((part for part in reversed(parts) if part not in GENERIC), parts[-1] if parts else path)


def _service(models: str | Sequence[str] | Mapping[str, str], limits: Limits, load: Load | None) -> Service:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UserError("serving needs more libraries; run: pip install 'vitrail[serve]'") from None
    from vitrail import loading
    from vitrail.serve.service import Service
    from vitrail.serve.worker import Worker

    return Service(Worker(named(models), load or loading.load, limits.model_seconds), limits, warm=True)


def _resolved(limits: Limits) -> list[str]:
    auto = " (auto: 8 batches)" if limits.queue is None else ""
    return [
        f"batches: up to {limits.batch_size} images, waiting up to {limits.batch_wait * 1000:g} ms",
        f"limits: {limits.queue_size} images in the queue{auto}, {limits.max_body:,} bytes a body, "
        f"{limits.max_pixels:,} pixels an image, {limits.images} images a request; "
        f"so at most {limits.body_bytes / 1e6:,.0f} MB of bodies",
    ]


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
