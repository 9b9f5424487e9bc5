"""Request bodies to images, within limits of size and time, in memory only.

URLs and paths that a client names are never opened; images arrive as bytes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from vitrail.data.media.decode import BadImage, TooManyPixels, decode
from vitrail.data.media.formats import sniff
from vitrail.data.media.limits import Broken
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of
from vitrail.serve.limits import Limits
from vitrail.serve.service import Fitted, Service

RAW = "application/octet-stream"
FORMS = "multipart/form-data with files, application/json, or one image as image/* or application/octet-stream"
BASE64 = {"type": "string", "contentEncoding": "base64", "description": "An encoded image, in base64."}
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


class _InMemory(MultiPartParser):
    spool_max_size = sys.maxsize  # the limit of the body bounds the memory


async def encoded_images(request: Request, service: Service) -> list[bytes]:
    """The images of a request as they came, at least one.

    Raises:
        HTTPException: 400 malformed, 408 too slow, 413 too large or too many, 415 of another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _multipart(request, service.limits)
    elif kind == "application/json":
        images = await service.in_thread(_json, await read(request, service.limits), service.limits)
    elif kind == RAW or kind.startswith("image/"):
        images = [await read(request, service.limits)]
    else:
        raise HTTPException(415, f"cannot read {kind or 'a body without a type'!r}; send {FORMS}")
    if not images:
        raise HTTPException(400, f"there is no image in the body; send {FORMS}")
    return images


async def read(request: Request, limits: Limits) -> bytes:
    """The complete body. Errors as :func:`encoded_images`."""
    return b"".join([chunk async for chunk in _chunks(request, limits)])


def require_few(num_images: int, limits: Limits) -> None:
    """Raises HTTPException 413: more images than a request may have."""
    if num_images > limits.images:
        raise HTTPException(413, f"more than {limits.images} images; send several requests")


def unpacked(texts: Sequence[Any], limits: Limits) -> list[bytes]:
    """Images from base64. Errors as :func:`encoded_images`."""
    require_few(len(texts), limits)
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (TypeError, ValueError, binascii.Error):
        raise HTTPException(400, "an image is no base64 text; encode its file's bytes") from None


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Errors as :func:`encoded_images`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is no JSON object")
    return value


def picture(data: bytes, number: int, config: PreprocessConfig, limits: Limits, smallest: int | None = None) -> Picture:
    """One image decoded (``smallest``: see :func:`decode`), with errors that reveal nothing of the server.

    Raises:
        HTTPException: 413 too many pixels, 415 no image of a format that is read, 422 damaged.
    """
    try:
        sniff(data)
    except Broken as error:
        raise HTTPException(415, f"image {number} {error}") from None
    try:
        options: dict[str, Any] = {"max_pixels": limits.max_pixels, "reading": config.reading, "warn": lambda _: None}
        return decode(data, config.channels, smallest=smallest, **options)
    except BadImage as error:
        status = 413 if isinstance(error, TooManyPixels) else 422
        cause = str(error).partition(":")[0]  # what follows is a decoder's own message
        raise HTTPException(status, f"image {number} {cause}") from None


def fit_image(data: bytes, number: int, preprocess: Preprocess, limits: Limits, whole: bool = False) -> Fitted:
    """One image at the model's input size. Errors as :func:`picture`.

    Args:
        whole: decode it in full, for results in the image's own pixels.
    """
    image = picture(data, number, preprocess.config, limits, None if whole else preprocess.sufficient)
    return preprocess.pixels(image).numpy(), preprocess.geometry(size_of(image))


def shares(geometry: ImageGeometry) -> list[float]:
    """The part of an image that a model receives, [left, top, right, bottom] as shares of its sides.

    It goes beyond 0 and 1 where a border is added.
    """
    return [side / length for side, length in zip(geometry.region, geometry.original[::-1] * 2, strict=True)]


async def _chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; stops where it exceeds a limit."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "compressed bodies are not supported; send it uncompressed")
    too_large = HTTPException(413, f"the body has more than {limits.max_body} bytes")
    if int(request.headers.get("content-length", 0)) > limits.max_body:
        raise too_large
    size, stream = 0, request.stream()
    deadline = asyncio.get_running_loop().time() + limits.body_seconds
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            size += len(chunk)
            if size > limits.max_body:
                raise too_large
            yield chunk
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None


async def _multipart(request: Request, limits: Limits) -> list[bytes]:
    parser = _InMemory(request.headers, _chunks(request, limits), max_files=limits.images, max_fields=limits.images)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            require_few(limits.images + 1, limits)
        raise HTTPException(400, "the body is no valid multipart/form-data") from None
    try:
        return [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    finally:
        await form.close()


def _json(body: bytes, limits: Limits) -> list[bytes]:
    value = parsed(body)
    images = value.get("images")
    if set(value) != {"images"} or not isinstance(images, list):
        raise HTTPException(400, 'the body is not {"images": ["<base64>", ...]}')
    return unpacked(images, limits)
