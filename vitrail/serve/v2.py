"""The Open Inference Protocol, version 2, over REST (as KServe, Triton and OpenVINO implement it).

A model takes either ``image`` (BYTES: encoded images, in base64) or ``pixels`` (UINT8: at its input size, before
normalisation), and gives the numbers of its predictions (FP32) and each prediction as JSON (BYTES), in the pixels of
what it was given. The extensions for binary tensors and for loading and unloading models are not implemented.
Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.serve.jobs.predict import Predict
from vitrail.serve.limits import Limits
from vitrail.serve.query_names import known_names
from vitrail.serve.requests import parsed, read, require_few, unpacked
from vitrail.serve.v1 import CurrentService, ReservedSlot, decoded, prediction_json
from vitrail.serve.worker import ServedModel, arrays
from vitrail.version import __version__

TOP = 5  # classes named in the JSON of a prediction
TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["image", "pixels"]},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "data": {"type": "array", "description": "Row by row, flat or nested; base64 texts for BYTES."},
    },
    "required": ["name", "datatype", "shape", "data"],
}
NAMED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
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
                    },
                    "required": ["inputs"],
                }
            }
        },
    }
}

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], dependencies=[Depends(known_names)])


@router.get("")
async def server() -> JSONResponse:
    """Server metadata."""
    return JSONResponse({"name": "vitrail", "version": __version__, "extensions": []})


@router.get("/health/live")
async def live() -> JSONResponse:
    """The server runs."""
    return JSONResponse({"live": True})


@router.get("/health/ready")
async def ready(service: CurrentService) -> JSONResponse:
    """All models are ready; the protocol requires 4xx where they are not."""
    return JSONResponse({"ready": service.ready}, 200 if service.ready else 400)


@router.get("/models/{name}")
async def model(name: str, service: CurrentService) -> JSONResponse:
    """Model metadata: its tensors."""
    served = service.model(name)
    return JSONResponse(
        {
            "name": served.name,
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


@router.get("/models/{name}/ready")
async def model_ready(name: str, service: CurrentService) -> JSONResponse:
    """The model is ready."""
    served = service.model(name)
    return JSONResponse({"name": served.name, "ready": service.ready}, 200 if service.ready else 400)


@router.post("/models/{name}/infer", openapi_extra=OPENAPI)
async def infer(name: str, request: Request, service: CurrentService, slot: ReservedSlot) -> JSONResponse:
    """Predictions as tensors."""
    served = service.model(name)
    if request.headers.get("content-type", "application/json").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json; the extension for binary tensors is not supported")
    body = await service.in_thread(parsed, await read(request, service.limits))
    wanted = _wanted(body, served)
    tensor = _only_input(body)
    given = await service.in_thread(_pixels, tensor, served, service.limits)
    slot.reserve(len(given))
    if tensor["name"] == "image":
        images = await decoded(given, service, served)
    else:
        images = [(pixels, ImageGeometry.identity(served.preprocess.size)) for pixels in given]
    predictions = await service.compute(served.name, Predict(), images)
    found = {each["name"]: each for each in _outputs(predictions)}
    answer = {"model_name": served.name, "outputs": [found[key] for key in wanted]}
    return JSONResponse(answer | ({"id": body["id"]} if isinstance(body.get("id"), str) else {}))


def _size(served: ServedModel) -> tuple[int, int, int]:
    """(C, H, W)"""
    return served.preprocess.channels, *served.preprocess.size


def _wanted(body: dict[str, Any], served: ServedModel) -> list[str]:
    """Names of the requested outputs; all of them where none is."""
    known = [*served.arrays, "prediction"]
    asked = body.get("outputs") or [{"name": name} for name in known]
    if not isinstance(asked, list) or not all(isinstance(each, dict) and each.get("name") in known for each in asked):
        raise HTTPException(400, f"outputs must be a list of objects with a name of: {', '.join(known)}")
    return [each["name"] for each in asked]


def _only_input(body: dict[str, Any]) -> dict[str, Any]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise HTTPException(400, "inputs must hold one tensor: image (BYTES) or pixels (UINT8)")
    tensor: dict[str, Any] = inputs[0]
    if (tensor.get("name"), tensor.get("datatype")) not in (("image", "BYTES"), ("pixels", "UINT8")):
        raise HTTPException(400, "the input must be image with datatype BYTES, or pixels with datatype UINT8")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 < size < 2**31 for size in shape):
        raise HTTPException(400, "shape must be a list of positive integers")
    if not isinstance(tensor.get("data"), list):
        raise HTTPException(400, "data must be a list")
    return tensor


def _pixels(tensor: dict[str, Any], served: ServedModel, limits: Limits) -> list[Any]:
    """Encoded images, or pixels uint8 (C, H, W) each."""
    shape, data = tensor["shape"], tensor["data"]
    if tensor["name"] == "image":
        if shape not in ([len(data)], [len(data), 1]) or not data:
            raise HTTPException(400, f"shape {shape} does not fit {len(data)} images")
        return unpacked([each[0] if isinstance(each, list) and len(each) == 1 else each for each in data], limits)
    wanted = _size(served)
    if tuple(shape[1:]) != wanted:
        raise HTTPException(400, f"pixels of shape {shape} do not fit this model's {[-1, *wanted]}")
    require_few(shape[0], limits)
    try:
        values = np.asarray(data).reshape(-1)
    except ValueError:
        raise HTTPException(400, "data is neither flat nor evenly nested") from None
    if values.dtype.kind not in "iu" or len(values) != math.prod(shape) or values.min() < 0 or values.max() > 255:
        raise HTTPException(400, f"data must be {math.prod(shape)} integers from 0 to 255")
    return list(values.astype(np.uint8).reshape(shape))


def _outputs(predictions: list[Any]) -> list[dict[str, Any]]:
    tensors = []
    for key in arrays(predictions[0]):
        rows = np.stack([arrays(each)[key] for each in predictions])
        shape = {"shape": list(rows.shape), "data": rows.reshape(-1).tolist()}
        tensors.append({"name": key, "datatype": "FP32"} | shape)
    texts = [json.dumps(prediction_json(each, TOP), ensure_ascii=False) for each in predictions]
    return [*tensors, {"name": "prediction", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]
