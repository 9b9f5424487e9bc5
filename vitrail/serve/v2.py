"""The routes of the Open Inference Protocol, version 2, over REST (as KServe, Triton and OpenVINO implement it).

With the extension for binary tensors, in requests and answers; :mod:`vitrail.serve.tensors` reads and writes both.
Each model has one version, 1. The extensions for loading and unloading models and for shared memory are not there.
Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.predictions import Prediction
from vitrail.serve.jobs.predict import Predict
from vitrail.serve.query_names import known_names
from vitrail.serve.refusals import Refused, malformed, unsupported
from vitrail.serve.requests import RAW, media_type, read
from vitrail.serve.tensors import VERSION, Asked, Size, answer, asked
from vitrail.serve.v1 import CurrentService, ReservedSlot, decoded, prediction_json
from vitrail.serve.worker import ServedModel, arrays
from vitrail.version import __version__

JSON_LENGTH = "Inference-Header-Content-Length"
TOP = 5  # classes named in the JSON of a prediction
TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["image", "pixels"]},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "data": {
            "type": "array",
            "items": {},
            "description": "Row by row, flat or nested; base64 texts for BYTES. Or binary_data_size in the parameters.",
        },
        "parameters": {"type": "object"},
    },
    "required": ["name", "datatype", "shape"],
}
NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
    "required": ["name"],
}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1},
                        "outputs": {"type": "array", "items": NAMED},
                        "parameters": {"type": "object"},
                    },
                    "required": ["inputs"],
                }
            },
            RAW: {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": f"The JSON, of {JSON_LENGTH} bytes, then the binary data of the input.",
                }
            },
        },
    },
    "parameters": [
        {
            "name": JSON_LENGTH,
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Bytes of the JSON before binary data; 0: the body is one encoded image.",
        }
    ],
}

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], dependencies=[Depends(known_names)])


@router.get("")
async def server() -> JSONResponse:
    """Server metadata."""
    return JSONResponse({"name": "vitrail", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get("/health/live")
async def live() -> JSONResponse:
    """The server runs."""
    return JSONResponse({"live": True})


@router.get("/health/ready")
async def ready(service: CurrentService) -> JSONResponse:
    """All models are ready; the protocol requires 4xx where they are not."""
    return JSONResponse({"ready": service.ready}, 200 if service.ready else 400)


async def known_version(version: Annotated[str, Path(description="There is only 1.")]) -> None:
    """Raises Refused 404: a version that is not there."""
    if version != VERSION:
        raise Refused(404, f"there is no version {version!r}; each model has only version {VERSION}", "no such model")


MODEL, VERSIONED = "/models/{name}", "/models/{name}/versions/{version}"
OF_A_VERSION = [Depends(known_version)]


@router.get(MODEL)
@router.get(VERSIONED, dependencies=OF_A_VERSION)
async def model(name: str, service: CurrentService) -> JSONResponse:
    """Model metadata: its tensors."""
    served = service.model(name)
    return JSONResponse(
        {
            "name": served.name,
            "versions": [VERSION],
            "platform": f"vitrail_{served.task}",
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [-1]},
                {"name": "pixels", "datatype": "UINT8", "shape": [-1, *_size(served)]},
            ],
            "outputs": [
                *({"name": key, "datatype": "FP32", "shape": [-1, k]} for key, k in served.arrays.items()),
                {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            ],
        }
    )


@router.get(f"{MODEL}/ready")
@router.get(f"{VERSIONED}/ready", dependencies=OF_A_VERSION)
async def model_ready(name: str, service: CurrentService) -> JSONResponse:
    """The model is ready."""
    served = service.model(name)
    return JSONResponse({"name": served.name, "ready": service.ready}, 200 if service.ready else 400)


@router.post(f"{MODEL}/infer", openapi_extra=OPENAPI, response_class=JSONResponse)
@router.post(f"{VERSIONED}/infer", dependencies=OF_A_VERSION, openapi_extra=OPENAPI, response_class=JSONResponse)
async def infer(name: str, request: Request, service: CurrentService, slot: ReservedSlot) -> Response:
    """Predictions as tensors; as binary data where the request asks for it."""
    served, limits = service.model(name), service.limits
    length = _json_length(request)
    known = [*served.arrays, "prediction"]
    body = await read(request, slot, limits.max_body if length is None else length)
    wanted = await service.readers.bulky(asked, body, length, _size(served), known, limits)
    slot.reserve(wanted.num_images)
    if wanted.pixels is None:
        given = wanted.images or []
        images = await decoded(given, service, served, served.room(limits, len(given)))
    else:
        images = [(pixels, ImageGeometry.identity(served.preprocess.size)) for pixels in wanted.pixels]
    predictions = await service.compute(served.name, Predict(), images)
    body, json_bytes = await service.in_thread(_answer, served.name, wanted, predictions)
    if json_bytes is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={JSON_LENGTH: str(json_bytes)}, media_type=RAW)


def _json_length(request: Request) -> int | None:
    """Bytes of the JSON that binary data follows; None: the body is JSON alone."""
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        if media_type(request) not in ("", "application/json"):
            raise unsupported(f"send application/json, or binary data with the header {JSON_LENGTH}")
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise malformed(f"{JSON_LENGTH} must be the number of bytes of the JSON")
    return int(text)


def _size(served: ServedModel) -> Size:
    return served.preprocess.channels, *served.preprocess.size


def _answer(model: str, wanted: Asked, predictions: Sequence[Prediction]) -> tuple[bytes, int | None]:
    numbers = {
        name: np.stack([arrays(each)[name] for each in predictions])
        for name in arrays(predictions[0])
        if name in wanted.outputs
    }
    texts = [json.dumps(prediction_json(each, TOP), ensure_ascii=False) for each in predictions]
    return answer(model, wanted, numbers, texts if "prediction" in wanted.outputs else [])
