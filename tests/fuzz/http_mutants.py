"""Mutants of HTTP requests, and what no answer to one may be.

``mutant(random)`` makes one: a valid request of every route, changed where its structure is: in JSON values, tensors,
parts of forms, headers, the query, the framing, or an image's bytes. ``with target() as ask: ask(mutant)`` sends it to
a server in this process and raises AssertionError for a status of 500, an answer that is no JSON, one that costs two
seconds, a place or a byte that stays taken, or a traceback in the log.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

SECONDS = 2.0
SIZE = (16, 24)  # of the model
ODD: list[object] = [
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, -0.0, "", "\ud800", "\0", "é" * 50, "NaN", "data:,x",
    "data:image/png;base64,", "http://127.0.0.1/", "../../etc/passwd", [], [[]], {}, {"": 0}, [[[[[[]]]]]], "x" * 5000,
]  # fmt: skip
HEADERS = [
    "Host: evil.example", "Host:", "Host: [::1", "Origin: https://evil.example", "Origin: null", "Expect: 100-continue",
    "Sec-Fetch-Site: cross-site", "Content-Encoding: gzip", "Content-Type: image/png", "Content-Type: text/plain",
    "Content-Type: application/json; charset=utf-16", "Content-Type: multipart/form-data", "Authorization: Bearer \xff",
    "Content-Type: multipart/form-data; boundary=" + "b" * 80, "Inference-Header-Content-Length: 0",
    "Connection: close", "Inference-Header-Content-Length: -1",
    "Inference-Header-Content-Length: 99999999999999999999", "X: " + "x" * 9000,
    "Inference-Header-Content-Length: ²", "Transfer-Encoding: chunked", "Content-Length: 5", "Upgrade: websocket",
    "Access-Control-Request-Method: POST", "Accept-Encoding: gzip", "Range: bytes=0-1", "Connection: upgrade",
]  # fmt: skip
QUERY = ["model", "top", "method", "layer", "head", "target", "patch", "format", "map", "r", "x"]
VALUES = [
    "", "0", "-1", "5", "1e9", "9" * 400, "%00", "%ed%a0%80", "%ff", "first", "gradcam", "similarity", "png", "json",
    "rollout", "attention", "cat", "é", "a" * 2000, "None", "true", "0x10", "１",
]  # fmt: skip
ROUTES = ["/v1/predict", "/v1/embed", "/v1/explain", "/v1/attention", "/v1/merge", "/v1/models", "/metrics", "/healthz",
          "/", "/page/page.js", "/docs", "/openapi.json", "/v2", "/v2/models/first", "/v2/health/ready",
          "/v2/models/first/infer", "/v2/models/first/versions/1/infer", "/v2/models/first/versions/9"]  # fmt: skip


def mutant(random: Random) -> bytes:
    """One request as bytes."""
    path, kind, body = random.choice(_BASES)(random)
    if random.random() < 0.3:
        path = random.choice(ROUTES)
    if random.random() < 0.2:
        path = path.replace("first", "larger") if "first" in path else f"{path}?model=larger"
    if random.random() < 0.5:
        path += ("&" if "?" in path else "?") + "&".join(
            f"{random.choice(QUERY)}={random.choice(VALUES)}" for _ in range(random.randint(1, 4))
        )
    if random.random() < 0.3:
        body = noisy(body, random)
    method = random.choices(["POST", "GET", "HEAD", "PUT", "OPTIONS", "TRACE", "BREW"], [30, 3, 1, 1, 1, 1, 1])[0]
    headers = ["Host: 127.0.0.1", *kind, f"Content-Length: {len(body)}"]
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        headers.insert(random.randrange(len(headers) + 1), random.choice(HEADERS))
    if random.random() < 0.1:
        del headers[random.randrange(len(headers))]
    head = f"{method} {path} HTTP/1.1\r\n" + "\r\n".join(headers) + "\r\n\r\n"
    data = head.encode("utf-8", "surrogatepass") + body
    return noisy(data, random) if random.random() < 0.05 else data


def noisy(data: bytes, random: Random) -> bytes:
    """With bytes changed, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        start, length = random.randrange(len(changed) + 1), random.choice((1, 2, 4, 50))
        match random.randrange(5):
            case 0:
                del changed[start:]
            case 1:
                del changed[start : start + length]
            case 2:
                changed[start:start] = random.randbytes(length)
            case 3:
                changed[start:start] = changed[start : start + length] * random.choice((1, 10))
            case _:
                changed[start : start + length] = random.randbytes(length)
    return bytes(changed)


def _png(random: Random) -> bytes:
    pixels = np.random.default_rng(random.randrange(4)).integers(0, 256, (20, 30, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, random.choice(("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM")))
    return noisy(file.getvalue(), random) if random.random() < 0.3 else file.getvalue()


def _raw(random: Random) -> tuple[str, list[str], bytes]:
    return random.choice(ROUTES[:5]), ["Content-Type: image/png"], _png(random)


def _form(random: Random) -> tuple[str, list[str], bytes]:
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + _png(random) + b"\r\n"
        for _ in range(random.choice((0, 1, 2, 20)))
    )
    return random.choice(ROUTES[:5]), ["Content-Type: multipart/form-data; boundary=b"], parts + b"--b--\r\n"


def _json(random: Random) -> tuple[str, list[str], bytes]:
    value = {"images": [base64.b64encode(_png(random)).decode() for _ in range(random.choice((0, 1, 2, 20)))]}
    return random.choice(ROUTES[:5]), ["Content-Type: application/json"], _text(value, random)


def _tensor(random: Random) -> tuple[str, list[str], bytes]:
    number, tail = random.choice((1, 2)), b""
    tensor: dict[str, object]
    if binary := random.random() < 0.5:
        images = [_png(random) for _ in range(number)]
        tail = b"".join(len(each).to_bytes(4, "little") + each for each in images)
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [number],
            "parameters": {"binary_data_size": len(tail)},
        }
    elif random.random() < 0.5:
        data = [base64.b64encode(_png(random)).decode() for _ in range(number)]
        tensor = {"name": "image", "datatype": "BYTES", "shape": [number], "data": data}
    else:
        data = [7] * (number * 3 * SIZE[0] * SIZE[1])
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [number, 3, *SIZE], "data": data}
    value: dict[str, object] = {"id": "7", "inputs": [tensor], "parameters": {"binary_data_output": binary}}
    if random.random() < 0.5:
        value["outputs"] = [{"name": "probabilities"}, {"name": "prediction", "parameters": {"binary_data": True}}]
    text = _text(value, random)
    length = [f"Inference-Header-Content-Length: {len(text)}"] if binary else []
    return random.choice(ROUTES[-3:-1]), ["Content-Type: application/json", *length], text + tail


_BASES = [_raw, _form, _json, _tensor, _tensor]


def _text(value: object, random: Random) -> bytes:
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        value = _changed(value, random)
    return json.dumps(value, allow_nan=True).encode()


def _changed(value: object, random: Random) -> object:
    """With one value below it replaced, left out, doubled or renamed."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return random.choice(ODD)
    if isinstance(value, list):
        place = random.randrange(len(value))
        match random.randrange(4):
            case 0:
                return value * random.choice((2, 50)) if len(value) < 10 else value[:-1]
            case 1:
                return value[:place] + value[place + 1 :]
            case _:
                return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    key = random.choice(list(value))
    match random.randrange(5):
        case 0:
            return {name: each for name, each in value.items() if name != key}
        case 1:
            return {(random.choice(list(value)) if name == key else name): each for name, each in value.items()}
        case _:
            return value | {key: _changed(value[key], random)}


@contextmanager
def target() -> Iterator[Callable[[bytes], int]]:
    """A server with two small models, of classes and of pictures; asked a request, it gives the status, or 0 where it
    closed the connection."""
    from in_process import listening_service

    log = _Log(logging.ERROR)
    with listening_service({"first": _predictor(), "larger": _restoring()}, header_seconds=0.2, body_seconds=0.3) as (
        url,
        service,
    ):
        host, _, port = url.removeprefix("http://").partition(":")

        logging.getLogger("uvicorn.error").addHandler(log)

        def ask(data: bytes) -> int:
            began = time.process_time()
            status, body = _exchange(host, int(port), data)
            assert time.process_time() - began < SECONDS, "it took too long"
            assert status < 500 or status == 503, f"status {status}"
            if status >= 400 and body:
                assert set(json.loads(body)) == {"error"}, body[:200]
            end = time.monotonic() + 10
            while service.taken or service.held:
                assert time.monotonic() < end, "something stays taken"
                time.sleep(0.005)
            assert not log.lines, log.lines.pop()
            return status

        yield ask


class _Log(logging.Handler):
    """Errors that the server logged, with their tracebacks."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record)[-600:])


def _predictor() -> Predictor:
    import torch

    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.tasks import classification
    from vitrail.vit import ViTConfig

    torch.manual_seed(0)
    model = ViTConfig(image_size=SIZE, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    task = classification.Task(classification.Config(model=model, classes=("ant", "bee", "cat", "dog")))
    return Predictor(task, PreprocessConfig(size=SIZE), device="cpu")


def _restoring() -> Predictor:
    import torch

    from vitrail.config import override
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.tasks import super_resolution

    torch.manual_seed(0)
    model = override(super_resolution.light(), {"dim": 8, "heads": 2, "mlp_dim": 16, "depth": 2, "image_size": 12})
    config = override(super_resolution.Config(model=model, scale=2), {"window.size": 4})
    tiles = super_resolution.exact_tiles(config)
    preprocess = PreprocessConfig(size=12, resize="none", mean=(0,), std=(1,), tiles=tiles)
    return Predictor(super_resolution.Task(config), preprocess, device="cpu")


def _exchange(host: str, port: int, data: bytes) -> tuple[int, bytes]:
    received = b""
    with socket.create_connection((host, port), timeout=20) as connection:
        try:
            connection.sendall(data)
            while chunk := connection.recv(1 << 16):
                received += chunk
                if _is_whole(received, data):
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
    received = re.sub(rb"^HTTP/1.1 100 Continue\r\n\r\n", b"", received)
    head, _, body = received.partition(b"\r\n\r\n")
    length = None if data.startswith(b"HEAD ") else re.search(rb"content-length: (\d+)", head)
    return (int(head.split()[1]), body[: int(length[1])] if length else b"") if head else (0, b"")


def _is_whole(received: bytes, asked: bytes) -> bool:
    received = re.sub(rb"^HTTP/1.1 100 Continue\r\n\r\n", b"", received)
    head, mark, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(mark) and (asked.startswith(b"HEAD ") or length is None or len(body) >= int(length[1]))
