"""Requests and answers of the Open Inference Protocol as bytes: JSON, or JSON with binary tensors behind it.

A model takes either ``image`` (BYTES: encoded images; in JSON in base64) or ``pixels`` (UINT8: at its input size,
before normalisation). :func:`asked` is called in a reading process.
Sources: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and its extension
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol/binary-tensor-data-extension
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrail.serve.limits import Limits
from vitrail.serve.reading import parsed, require_few, unpacked
from vitrail.serve.refusals import malformed

Size = tuple[int, int, int]
"""Channels, height, width."""

MAX_ID = 1000  # characters
LENGTH = struct.Struct("<I")  # before each element of a binary BYTES tensor


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        outputs: by name, whether as binary data; in the order of the answer.
        images: encoded images, or None.
        pixels: uint8 (N, C, H, W), or None.
        id: to repeat in the answer.
    """

    outputs: dict[str, bool]
    images: list[bytes] | None
    pixels: np.ndarray | None
    id: str | None = None

    @property
    def num_images(self) -> int:
        """At least one."""
        return len(self.pixels if self.pixels is not None else self.images or ())


def asked(body: bytes, json_bytes: int | None, size: Size, known: Sequence[str], limits: Limits) -> Asked:
    """A request for a model.

    Args:
        json_bytes: length of the JSON that binary data follows; None: all is JSON; 0: all is one encoded image.
        size: of the model's input.
        known: names of the outputs that the model gives.

    Raises:
        Refused: 400 not as the protocol says, 413 too many images or JSON values.
    """
    if json_bytes == 0:
        return Asked(dict.fromkeys(known, True), _some([body]), None)
    if json_bytes is not None and json_bytes > len(body):
        raise malformed(f"Inference-Header-Content-Length is {json_bytes}, and the body has {len(body)} bytes")
    view = memoryview(body)
    value = parsed(view[:json_bytes], limits)
    tensor = _only_input(value)
    binary = _binary(tensor, view[json_bytes:] if json_bytes is not None else view[:0], json_bytes is not None)
    outputs, name = _outputs(value, known, json_bytes is not None), _id(value)
    if tensor["name"] == "pixels":
        return Asked(outputs, None, _pixels(tensor, binary, size, limits), name)
    return Asked(outputs, _images(tensor, binary, limits), None, name)


def answer(
    model: str, request: Asked, numbers: Mapping[str, np.ndarray], texts: Sequence[str]
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where binary data follows.

    Args:
        numbers: float32 (N, length) by output.
        texts: of the output ``prediction``, one an image.
    """
    described, tail = [], []
    for name, binary in request.outputs.items():
        kind, shape = ("FP32", list(numbers[name].shape)) if name in numbers else ("BYTES", [len(texts)])
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": shape}
        if binary:
            data = numbers[name].astype("<f4").tobytes() if name in numbers else packed(texts)
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            tensor["data"] = numbers[name].reshape(-1).tolist() if name in numbers else list(texts)
        described.append(tensor)
    head: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": described}
    text = dumped(head | ({} if request.id is None else {"id": request.id}))
    return b"".join([text, *tail]), len(text) if tail else None


VERSION = "1"  # the only one of each model


def dumped(value: object) -> bytes:
    """JSON in UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes an escape."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )


def packed(texts: Sequence[str]) -> bytes:
    """A binary BYTES tensor."""
    encoded = [text.encode("utf-8", "backslashreplace") for text in texts]
    return b"".join(LENGTH.pack(len(each)) + each for each in encoded)


def _only_input(value: dict[str, Any]) -> dict[str, Any]:
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise malformed("inputs must hold one tensor: image (BYTES) or pixels (UINT8)")
    tensor: dict[str, Any] = inputs[0]
    if (tensor.get("name"), tensor.get("datatype")) not in (("image", "BYTES"), ("pixels", "UINT8")):
        raise malformed("the input must be image with datatype BYTES, or pixels with datatype UINT8")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size < 2**31 for size in shape):
        raise malformed("shape must be a list of positive integers")
    return tensor


def _binary(tensor: dict[str, Any], tail: memoryview, allowed: bool) -> memoryview | None:
    """The input's binary data; None where it is in the JSON.

    The one input is all there is, so the data behind the JSON must be its own to the last byte.
    """
    num_bytes = _parameters(tensor, "an input").get("binary_data_size")
    if num_bytes is None:
        if len(tail):
            raise malformed(f"{len(tail)} bytes follow the JSON, and no input has a binary_data_size")
        if not isinstance(tensor.get("data"), list):
            raise malformed("data must be a list")
        return None
    if not allowed:
        raise malformed("binary data needs the header Inference-Header-Content-Length: the length of the JSON")
    if "data" in tensor:
        raise malformed("an input has either data or a binary_data_size")
    if type(num_bytes) is not int or num_bytes != len(tail):
        raise malformed(f"{len(tail)} bytes follow the JSON, which must be the binary_data_size of the input")
    return tail


def _parameters(value: dict[str, Any], whose: str) -> dict[str, Any]:
    parameters = value.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise malformed(f"the parameters of {whose} must be an object")
    return parameters


def _outputs(value: dict[str, Any], known: Sequence[str], binary: bool) -> dict[str, bool]:
    """The outputs that are asked for, all where none is, each at most once."""
    default = _flag(_parameters(value, "the request"), "binary_data_output", False)
    wanted = value.get("outputs")
    if wanted is None or wanted == []:
        return dict.fromkeys(known, default)
    if not isinstance(wanted, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) and each["name"] in known for each in wanted
    ):
        raise malformed(f"outputs must be a list of objects with a name of: {', '.join(known)}")
    names = [each["name"] for each in wanted]
    twice = next((name for i, name in enumerate(names[: len(known) + 1]) if name in names[:i]), None)
    if twice is not None:
        raise malformed(f"the output {twice} is asked for more than once")
    return {each["name"]: _flag(_parameters(each, "an output"), "binary_data", default) for each in wanted}


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise malformed(f"{name} must be true or false")
    return value


def _id(value: dict[str, Any]) -> str | None:
    name = value.get("id")
    if name is not None and (not isinstance(name, str) or len(name) > MAX_ID):
        raise malformed(f"id must be a text of at most {MAX_ID} characters")
    return name


def _images(tensor: dict[str, Any], binary: memoryview | None, limits: Limits) -> list[bytes]:
    shape = tensor["shape"]
    data: list[Any] = tensor["data"] if binary is None else _elements(binary, limits)
    if shape not in ([len(data)], [len(data), 1]) or not data:
        raise malformed(f"shape {_short(shape)} does not fit {len(data)} images")
    if binary is not None:
        return _some(data)
    return unpacked([each[0] if isinstance(each, list) and len(each) == 1 else each for each in data], limits)


def _some(images: list[bytes]) -> list[bytes]:
    if not all(images):
        raise malformed("an image has no bytes")
    return images


def _elements(data: memoryview, limits: Limits) -> list[bytes]:
    """Of a binary BYTES tensor."""
    found, position = [], 0
    while position < len(data):
        end = position + LENGTH.size
        if end > len(data) or end + (length := LENGTH.unpack(data[position:end])[0]) > len(data):
            raise malformed("the binary data ends within an element; each has its length before it, 4 bytes")
        found.append(bytes(data[end : end + length]))
        position = end + length
        require_few(len(found), limits)
    return found


def _pixels(tensor: dict[str, Any], binary: memoryview | None, size: Size, limits: Limits) -> np.ndarray:
    shape = tensor["shape"]
    if tuple(shape[1:]) != size:
        raise malformed(f"pixels of shape {_short(shape)} do not fit this model's {[-1, *size]}")
    require_few(shape[0], limits)
    try:
        data = bytes(binary) if binary is not None else _flat(tensor["data"])
    except (TypeError, ValueError):  # bytes() of something else
        raise malformed(f"data must be {math.prod(shape)} integers from 0 to 255, flat or nested") from None
    if len(data) != math.prod(shape):
        raise malformed(f"data must be {math.prod(shape)} integers from 0 to 255, and there are {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _flat(data: list[Any], depth: int = 4) -> bytes:
    """Nested lists of integers row by row; raises TypeError or ValueError for anything else."""
    if data and isinstance(data[0], list):
        if not depth or not all(isinstance(each, list) for each in data):
            raise ValueError
        return b"".join(_flat(each, depth - 1) for each in data)
    return bytes(data)


def _short(shape: list[int]) -> str:
    return str(shape) if len(shape) < 8 else f"of {len(shape)} numbers"
