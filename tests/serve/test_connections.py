"""What comes before a request, over real connections: headers, silence, crowds, and the end of the server."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import re
import socket
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from in_process import listening

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FEW = {"header_seconds": 0.3, "max_header": 2048, "max_connections": 4, "max_body": 100_000}


@pytest.fixture(scope="module")
def served():
    """The address of a server with no model: what is tested never reaches one."""
    with listening({}, **FEW) as url:
        parts = httpx.URL(url)
        yield parts.host, parts.port


@contextmanager
def connected(address):
    with socket.create_connection(address, timeout=10) as connection:
        yield connection


def ask(address, *sent, pause=0.0):
    """The status and what is said to these bytes; None where the connection ends without an answer."""
    with connected(address) as connection:
        try:
            for each in sent:
                connection.sendall(each)
                time.sleep(pause)
        except OSError:  # it refused and does not listen any longer
            pass
        return said(connection)


def said(connection):
    """One answer, and not a byte of the next."""
    head = b""
    try:
        while not head.endswith(b"\r\n\r\n"):
            head += (byte := connection.recv(1))
            if not byte:
                return None
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        return int(head.split()[1]), json.loads(connection.recv(length, socket.MSG_WAITALL))
    except ConnectionResetError:
        return None


def refusals(address):
    text = httpx.get(f"http://{address[0]}:{address[1]}/metrics").text
    return {line.split('"')[1]: float(line.split()[-1]) for line in text.splitlines() if "refused_total{" in line}


@pytest.mark.parametrize(
    "sent",
    [
        [HEAD + b"X: " + b"x" * 3000 + b"\r\n\r\n"],
        [HEAD + b"X: " + b"x" * 2500, b"x" * 2500, b"\r\n\r\n"],
        [HEAD + b"a: b\r\n" * 1000 + b"\r\n"],
        [b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
        [b"GET /?" + b"x" * 1_000_000],
        [HEAD + b"X: " + b"x" * 20_000_000],
        [HEAD + b"\r\n" + HEAD + b"X: " + b"x" * 5000 + b"\r\n\r\n"],
    ],
    ids=["long", "in pieces", "many", "address", "address without end", "20 MB", "second request"],
)
def test_headers_beyond_the_limit_are_refused_unparsed(sent, served):
    with connected(served) as connection:
        try:
            for each in sent:
                connection.sendall(each)
        except OSError:
            pass
        answer = said(connection)
        if sent[0].startswith(HEAD + b"\r\n"):
            assert answer[0] == 200
            answer = said(connection)
    assert answer == (431, {"error": "the headers have more than 2048 bytes (--max-header)"})
    assert refusals(served)["headers too large"] >= 1


def test_headers_within_the_limit_pass(served):
    assert ask(served, HEAD + b"X: " + b"x" * 1900 + b"\r\n\r\n")[0] == 200
    assert ask(served, *[bytes([each]) for each in HEAD + b"\r\n"])[0] == 200


@pytest.mark.parametrize("sent", [HEAD, HEAD + b"X: y", b"G"])
def test_headers_that_do_not_end_are_given_up(sent, served):
    began = time.monotonic()
    answer = ask(served, sent)
    assert answer == (408, {"error": "the headers did not arrive within 0.3 s (--header-seconds)"})
    assert time.monotonic() - began < 3


def test_a_header_line_now_and_then_does_not_keep_a_connection(served):
    assert ask(served, HEAD, *[b"a: b\r\n"] * 8, pause=0.1)[0] == 408


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n"])
def test_who_says_nothing_is_let_go(sent, served):
    assert ask(served, sent) is None


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_one_line(sent, served):
    assert ask(served, sent) == (400, {"error": "this is no valid HTTP request"})


def test_a_client_that_leaves_before_it_is_told_why_is_no_error_of_the_server(served, monkeypatch, caplog):
    def gone(transport):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write_eof", gone)
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    try:
        with connected(served) as connection:
            connection.sendall(HEAD + b"\r\n" + b"\xff\r\n\r\n")
            assert said(connection)[0] == 200
            assert said(connection)[0] == 400
    finally:
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert caplog.records == []


def test_two_hosts_are_refused(served):
    assert ask(served, HEAD + b"Host: other\r\n\r\n")[0] == 400


def test_of_too_many_connections_the_idlest_is_closed(served):
    before = refusals(served).get("connections", 0)
    with ExitStack() as stack:
        crowd = [stack.enter_context(connected(served)) for _ in range(4)]
        assert ask(served, HEAD + b"\r\n")[0] == 200, "whoever comes now is served"
        assert crowd[0].recv(1) == b""
        crowd[3].sendall(HEAD + b"\r\n")
        assert said(crowd[3])[0] == 200
    assert refusals(served)["connections"] > before


def test_a_refused_body_that_goes_on_is_not_read_for_ever(served):
    head = b"POST /v2/models/none/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000000\r\n\r\n"
    began, sent = time.monotonic(), 0
    with connected(served) as connection:
        connection.sendall(head)
        assert said(connection)[0] == 404
        try:
            while True:
                sent += connection.send(bytes(65536))
        except OSError:
            pass
    assert sent < 50_000_000
    assert time.monotonic() - began < 10


def test_the_answer_to_a_refused_body_is_not_lost_with_the_connection(served):
    head = b"POST /v2/models/none/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    with connected(served) as connection:
        connection.sendall(head + b"Content-Length: 90000\r\n\r\n")
        time.sleep(0.1)
        for _ in range(9):
            connection.sendall(bytes(10_000))
            time.sleep(0.01)
        assert said(connection)[0] == 404


def test_who_connected_before_the_end_is_still_answered():
    """A new connection and an idle one send their request only after the server was told to end."""
    with ExitStack() as stack:
        server = stack.enter_context(ending())
        fresh, idle = stack.enter_context(connected(server.address)), stack.enter_context(connected(server.address))
        idle.sendall(HEAD + b"\r\n")
        assert said(idle)[0] == 200
        server.end()
        time.sleep(0.3)
        for each in (fresh, idle):
            each.sendall(HEAD + b"\r\n")
            assert said(each)[0] == 200
            assert each.recv(1) == b""


class ending:
    """A server that ends as the command does, in a thread."""

    def __enter__(self):
        import threading

        from in_process import InProcess

        from vitrail.serve.access import Access
        from vitrail.serve.limits import Limits
        from vitrail.serve.server import _bind, _Server, configured
        from vitrail.serve.service import Service

        self.listener = _bind("127.0.0.1", 0)
        self.address = self.listener.getsockname()
        service = Service(InProcess({}), Limits(drain=0))
        self.server = _Server(configured(service, Access()), service)

        async def main():
            self.loop = asyncio.get_running_loop()
            async with service:
                await self.server.serve([self.listener])

        self.thread = threading.Thread(target=lambda: asyncio.run(main()))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def end(self):
        self.loop.call_soon_threadsafe(self.server._end, self.loop)

    def __exit__(self, *_):
        self.thread.join(20)
        assert not self.thread.is_alive()
