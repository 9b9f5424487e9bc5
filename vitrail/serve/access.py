"""Who may ask: host names, origins of web pages, and the token.

A page of another site must neither read answers nor make the browser of someone who can reach the server send requests:
``Host`` is compared with names of this server, which ends DNS rebinding; requests of other sites are recognised by
``Sec-Fetch-Site`` and ``Origin`` and refused, unless their origin is allowed.
Sources: Fetch (WHATWG), Fetch Metadata Request Headers (W3C), RFC 9110 section 7.2.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from vitrail.errors import UserError
from vitrail.serve.refusals import Refused

ANY = "*"
OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/")
"""Paths that need no token."""
OPEN_BELOW = "/page/"  # files of the page, which hold nothing of the models; the page requests the token from the user
LOCAL = ("localhost",)
METHODS = "GET, HEAD, POST"
EXPOSED = "Retry-After, Inference-Header-Content-Length"
REMEMBERED = "600"  # seconds that a browser keeps the answer to a preflight
NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?", re.ASCII)
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Access:
    """Args:
    hosts: names under which this server is asked, without a port; IP addresses are always allowed. ``*``: any.
    origins: of web pages that may use it, as ``https://app.example``. ``*``: any.
    token: required in ``Authorization: Bearer``; None: no check.

    Raises:
        UserError: a token, a host or an origin that cannot be sent.
    """

    hosts: tuple[str, ...] = (ANY,)
    origins: tuple[str, ...] = ()
    token: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", tuple(map(_host, self.hosts)))
        object.__setattr__(self, "origins", tuple(map(_origin, self.origins)))
        _check_token(self.token)

    @classmethod
    def listening(cls, host: str, allowed: Sequence[str], origins: Sequence[str], token: str | None) -> Access:
        """Of a server that listens on ``host``: its own names and those ``allowed``."""
        own = [host] if host not in ("", "0.0.0.0", "::") else [socket.gethostname()]
        names = [name for name in own if _is_name(name)]
        return cls((*LOCAL, *names, *allowed), tuple(origins), token)

    def refusal(self, scope: Scope) -> Refused | None:
        """Why a request is not answered."""
        headers: Headers = scope["headers"]
        return self._wrong_host(scope, headers) or self._foreign(scope, headers) or self._without_token(scope, headers)

    def is_preflight(self, scope: Scope) -> bool:
        """A browser's question whether a page of an allowed origin may send a request."""
        headers: Headers = scope["headers"]
        asks = _first(headers, b"access-control-request-method") is not None
        return scope["method"] == "OPTIONS" and asks and self._allows(_first(headers, b"origin"))

    def shared(self, scope: Scope) -> Headers:
        """The headers by which a browser lets a page of an allowed origin read an answer."""
        if not self.origins:
            return []
        origin = _first(scope["headers"], b"origin")
        if origin is None or not self._allows(origin):
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]

    def permitted(self, scope: Scope) -> Headers:
        """What a preflight is answered, beside :meth:`shared`."""
        wanted = _first(scope["headers"], b"access-control-request-headers")
        private = _first(scope["headers"], b"access-control-request-private-network")
        return [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-max-age", REMEMBERED.encode()),
            *([(b"access-control-allow-headers", wanted)] if wanted else []),
            *([(b"access-control-allow-private-network", b"true")] if private else []),
        ]

    def _wrong_host(self, scope: Scope, headers: Headers) -> Refused | None:
        given = [value for name, value in headers if name == b"host"]
        if not given and scope.get("http_version") == "1.0":
            return None  # no browser speaks it
        if len(given) != 1:
            return Refused(400, "a request has exactly one Host header", "host")
        if ANY in self.hosts:
            return None
        name = _hostname(given[0].decode("latin-1"))
        if name is not None and (_is_address(name) or name in self.hosts):
            return None
        return Refused(421, "this server has another name; its operator can allow this one with --allow-host", "host")

    def _foreign(self, scope: Scope, headers: Headers) -> Refused | None:
        site, origin = _first(headers, b"sec-fetch-site"), _first(headers, b"origin")
        if site in (b"same-origin", b"none"):  # browsers let no page set it; a proxy may have changed Host
            return None
        if origin is not None and (self._allows(origin) or _is_same(origin, _first(headers, b"host"))):
            return None
        if origin is None and (site in (None, b"same-site") or _follows_a_link(scope, headers)):
            return None
        return Refused(403, "a page of another site asks; its origin can be allowed with --allow-origin", "cross-site")

    def _without_token(self, scope: Scope, headers: Headers) -> Refused | None:
        if self.token is None or scope["path"] in OPEN or scope["path"].startswith(OPEN_BELOW):
            return None
        scheme, _, token = (_first(headers, b"authorization") or b"").partition(b" ")
        if hmac.compare_digest(scheme.lower() + b" " + token.strip(), f"bearer {self.token}".encode()):
            return None
        return Refused(401, "a token is needed", "token", {"WWW-Authenticate": "Bearer"})

    def _allows(self, origin: bytes | None) -> bool:
        if origin is None:
            return False
        return ANY in self.origins or origin.decode("latin-1").lower() in self.origins


def _first(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _follows_a_link(scope: Scope, headers: Headers) -> bool:
    """A person opens the page from a link or a bookmark; the page that has the link learns nothing."""
    opens = _first(headers, b"sec-fetch-mode") == b"navigate" and _first(headers, b"sec-fetch-dest") == b"document"
    public = scope["path"] in ("/", "/docs") or scope["path"].startswith(OPEN_BELOW)
    return opens and public and scope["method"] in ("GET", "HEAD")


def _is_same(origin: bytes, host: bytes | None) -> bool:
    """Scheme apart, which a proxy in front of the server may change."""
    return host is not None and urlsplit(origin.decode("latin-1").lower()).netloc == host.decode("latin-1").lower()


def _hostname(text: str) -> str | None:
    try:
        parts = urlsplit(f"//{text}")
        parts.port  # noqa: B018  raises ValueError
    except ValueError:
        return None
    plain = not (parts.path or parts.query or parts.fragment or parts.username is not None)
    return (parts.hostname or "").rstrip(".") if plain else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def _host(text: str) -> str:
    if text == ANY:
        return text
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not (_is_name(text) or _is_address(bare)):
        raise UserError(f"--allow-host {text!r} is no host name; write it without scheme and port, as in api.example")
    return text.lower().rstrip(".")


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  raises ValueError
        whole = (
            parts.scheme in ("http", "https")
            and parts.netloc
            and text.lower() == f"{parts.scheme}://{parts.netloc}".lower()
        )
    except ValueError:
        whole = False
    if text != ANY and not (whole and text.isascii() and text.isprintable() and " " not in text and "@" not in text):
        raise UserError(f"--allow-origin {text!r} is no origin; write scheme and host, as in https://app.example")
    return text.lower()


def _check_token(token: str | None) -> None:
    if token is not None and (not token.isascii() or not token.isprintable() or not token or " " in token):
        raise UserError("the token must be printable ASCII without spaces, and not empty; choose another")
