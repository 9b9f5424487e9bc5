"""What a reading process does with the bytes of a client: parse, decode, resize, draw.

All of it may be slow or crash on hostile bytes, so it runs in :mod:`vitrail.serve.readers`. Functions, arguments and
results survive pickling. URLs and paths that a client names are never opened.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

import numpy as np
from torch import Tensor

from vitrail.data.media.decode import BadImage, TooManyPixels, decode
from vitrail.data.media.formats import sniff
from vitrail.data.media.limits import Broken
from vitrail.data.media.originals import PLAIN, PictureForm, open_original
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of
from vitrail.explain import PatchMap
from vitrail.explain.overlay import overlay
from vitrail.serve.limits import Limits
from vitrail.serve.refusals import Refused, malformed, unsupported

Fitted = tuple[np.ndarray, ImageGeometry]
"""An image at a model's input size, uint8 (C, H, W), and where that lies in it."""

STRUCTURE = (b",", b":", b"[", b"{")
TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n")
DATA, IN_BASE64 = "data:", ";base64"


@dataclass(frozen=True)
class Room:
    """How many pixels a picture may have that is not resized.

    Attributes:
        reason: why, in words that follow the number.
    """

    pixels: int
    reason: str


def fit_image(
    data: bytes, number: int, config: PreprocessConfig, limits: Limits, whole: bool = False, room: Room | None = None
) -> Fitted:
    """One image at the model's input size. Errors as :func:`picture`.

    Args:
        number: of the image in its request, for errors.
        whole: decode it in full, for results in the image's own pixels.
        room: of pixels in full, beyond which it is refused; None: as many as are decoded.
    """
    preprocess = _preprocess(config)
    image = picture(data, number, config, limits, None if whole else preprocess.sufficient)
    height, width = size_of(image)
    if room is not None and height * width > room.pixels:
        told = f"image {number} has {width} × {height} pixels, more than the {room.pixels:,} {room.reason}"
        raise Refused(413, f"{told}; send a smaller one, or a part of it", "too many pixels")
    return preprocess.pixels(image).numpy(), preprocess.geometry(size_of(image))


def fit_original(
    data: bytes, number: int, config: PreprocessConfig, limits: Limits, room: Room | None = None
) -> tuple[Fitted, PictureForm]:
    """One image in its own size, as finely as it is stored, and how it is stored. Errors as :func:`picture`."""
    fitted = fit_image(data, number, config, limits, True, room)
    if config.resize != "none":
        return fitted, PLAIN
    original = open_original(data, config.channels, config.reading)
    return (original.pixels.numpy(), fitted[1]), original.form


def drawn(data: bytes, found: PatchMap, config: PreprocessConfig, limits: Limits) -> bytes:
    """A map over its image, as PNG.

    Raises:
        Refused: 422 it has a number of channels that cannot be drawn; or as :func:`picture`.
    """
    opened = picture(data, 0, config, limits)  # again: decoded pictures are too large to wait in a queue
    if isinstance(opened, Tensor):
        raise Refused(422, f"an image of {len(opened)} channels cannot be drawn; use format=json", "option")
    drawing = overlay(opened, found, _preprocess(config).region((opened.height, opened.width)))
    file = io.BytesIO()
    drawing.save(file, "PNG", compress_level=1)
    return file.getvalue()


def picture(data: bytes, number: int, config: PreprocessConfig, limits: Limits, smallest: int | None = None) -> Picture:
    """One image decoded (``smallest``: see :func:`decode`), with errors that reveal nothing of the server.

    Raises:
        Refused: 413 too many pixels, 415 no image of a format that is read, 422 damaged.
    """
    try:
        sniff(data)
    except Broken as error:
        raise unsupported(f"image {number} {error}") from None
    try:
        options: dict[str, Any] = {"max_pixels": limits.max_pixels, "reading": config.reading, "warn": lambda _: None}
        return decode(data, config.channels, smallest=smallest, **options)
    except TooManyPixels as error:
        raise Refused(413, f"image {number} {_cause(error)}", "too many pixels") from None
    except BadImage as error:
        raise Refused(422, f"image {number} {_cause(error)}", "damaged image") from None


def json_images(body: bytes, limits: Limits) -> list[bytes]:
    """The images of ``{"images": ["<base64>", ...]}``.

    Raises:
        Refused: 400 malformed, 413 too many values or images.
    """
    value = parsed(body, limits)
    images = value.get("images")
    if set(value) != {"images"} or not isinstance(images, list):
        raise malformed('the body is not {"images": ["<base64>", ...]}')
    return unpacked(images, limits)


def parsed(body: bytes | memoryview, limits: Limits) -> dict[str, Any]:
    """The JSON object in a body, whose values are counted before they are built.

    Raises:
        Refused: 400 no JSON object, 413 too many values.
    """
    text = bytes(body)
    require_few_values(num_values(text), limits)
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise malformed("the body is no JSON") from None
    if not isinstance(value, dict):
        raise malformed("the body is no JSON object")
    return value


def num_values(text: bytes) -> int:
    """A bound of the values in a piece of JSON, within microseconds: what begins or follows one."""
    return sum(map(text.count, STRUCTURE))


def require_few_values(number: int, limits: Limits) -> None:
    """Raises Refused 413: more values than the JSON of a request may have."""
    if number > limits.max_json_values:
        raise Refused(
            413,
            f"the JSON has more than {limits.max_json_values:,} commas, colons and brackets (--max-json-values); "
            "send encoded images, or tensors as binary data",
            "too many JSON values",
        )


def require_few(num_images: int, limits: Limits) -> None:
    """Raises Refused 413: more images than a request may have."""
    if num_images > limits.images:
        raise Refused(413, f"more than {limits.images} images; send several requests (--max-images)", "too many images")


def unpacked(texts: Sequence[object], limits: Limits) -> list[bytes]:
    """Images from base64: standard or URL-safe, padded or not, in lines or not, also as ``data:`` URI (RFC 2397).

    Raises:
        Refused: 400 no base64, 413 too many images.
    """
    require_few(len(texts), limits)
    return [_from_base64(text) for text in texts]


def _from_base64(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise TypeError
        if text[: len(DATA)].lower() == DATA:
            head, comma, text = text.partition(",")
            if not comma or not head.lower().endswith(IN_BASE64):
                raise malformed("a data: URI must be in base64, as in data:image/png;base64,…")
            text = unquote(text)
        text = text.translate(TO_STANDARD).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise malformed("an image is no base64 text; encode its file's bytes") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _cause(error: BadImage) -> str:
    return str(error).partition(":")[0]  # what follows is a decoder's own message


@functools.lru_cache(maxsize=16)
def _preprocess(config: PreprocessConfig) -> Preprocess:
    return Preprocess(config)
