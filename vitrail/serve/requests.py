"""Request bodies to images, within limits of size, rate and time, in memory only.

URLs and paths that a client names are never opened; images arrive as bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.serve import multipart
from vitrail.serve.limits import Limits
from vitrail.serve.reading import json_images, num_values, require_few_values
from vitrail.serve.refusals import Refused, malformed, unsupported
from vitrail.serve.service import QueueSlot, Service

RAW = "application/octet-stream"
FORMS = "multipart/form-data with files, application/json, or one image as image/* or application/octet-stream"
GRACE = 5.0  # seconds before a body's rate counts
BASE64 = {"type": "string", "contentEncoding": "base64", "description": "An encoded image, in base64 or as data: URI."}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["images"],
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": BASE64, "minItems": 1}},
                    "required": ["images"],
                    "additionalProperties": False,
                }
            },
            RAW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The request body of the routes that take images."""


def media_type(request: Request) -> str:
    """The type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def encoded_images(request: Request, service: Service, slot: QueueSlot) -> list[bytes]:
    """The images of a request as they came, at least one. The slot then holds room for all of them.

    Raises:
        Refused: 400 malformed, 408 too slow, 413 too large or too many, 415 of another type, 503 no room.
    """
    kind, limits = media_type(request), service.limits
    if kind == "multipart/form-data":
        body = await read(request, slot)
        images = multipart.files(body, request.headers["content-type"], limits.images)
    elif kind == "application/json":
        images = await service.readers.bulky(json_images, await read(request, slot, limits.max_body), limits)
    elif kind == RAW or kind.startswith("image/"):
        images = [await read(request, slot)]
    else:
        raise unsupported(f"cannot read {kind or 'a body without a type'!r}; send {FORMS}")
    if not images:
        raise malformed(f"there is no image in the body; send {FORMS}")
    slot.reserve(len(images))
    return images


async def read(request: Request, slot: QueueSlot, json_bytes: int = 0) -> bytes:
    """The complete body, counted by the slot as it arrives.

    Args:
        json_bytes: so many bytes at the beginning are JSON, whose values are counted too.

    Raises:
        Refused: 400 it ended early, 408 too slow, 413 too large, 415 compressed, 503 too many bodies at a time.
    """
    limits = slot.service.limits
    if request.headers.get("content-encoding", "identity") != "identity":
        raise unsupported("compressed bodies are not supported; send it uncompressed")
    too_large = Refused(413, f"the body has more than {limits.max_body} bytes (--max-body)", "body too large")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise malformed("Content-Length is no number")
    if int(declared) > limits.max_body:
        raise too_large
    body, stream, clock = bytearray(), request.stream(), asyncio.get_running_loop().time
    started, values = clock(), 0
    try:
        while True:
            async with asyncio.timeout_at(_deadline(started, len(body), limits)):
                chunk = await anext(stream, None)
            if chunk is None:
                return bytes(body)
            if len(body) + len(chunk) > limits.max_body:
                raise too_large
            slot.hold(len(chunk))
            if (rest := json_bytes - len(body)) > 0:
                values += num_values(chunk[:rest])
                require_few_values(values, limits)
            body += chunk
    except TimeoutError:
        raise _too_slow(clock() - started, limits) from None
    except ClientDisconnect:
        raise Refused(400, "the body ended early", "body ended early") from None


def shares(geometry: ImageGeometry) -> list[float]:
    """The part of an image that a model receives, [left, top, right, bottom] as shares of its sides.

    It goes beyond 0 and 1 where a border is added.
    """
    return [side / length for side, length in zip(geometry.region, geometry.original[::-1] * 2, strict=True)]


def _deadline(started: float, num_bytes: int, limits: Limits) -> float:
    """When the next bytes must be there: the least rate, or else the time for a body."""
    if not limits.min_rate:
        return started + limits.body_seconds
    return started + min(limits.body_seconds, max(GRACE, num_bytes / limits.min_rate))


def _too_slow(taken: float, limits: Limits) -> Refused:
    if taken >= limits.body_seconds:
        return Refused(408, f"the body did not arrive within {limits.body_seconds:g} s (--body-seconds)", "slow body")
    return Refused(408, f"the body came at less than {limits.min_rate:g} bytes a second (--min-rate)", "slow body")
