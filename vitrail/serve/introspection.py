"""Attention weights and token merging of one image, layer by layer."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from vitrail.serve.jobs.attention import Attention
from vitrail.serve.jobs.merge import Merge
from vitrail.serve.query_names import known_names
from vitrail.serve.requests import OPENAPI, shares
from vitrail.serve.v1 import MAX_TOKENS, MAX_TOP, CurrentService, Model, ReservedSlot, only_image

router = APIRouter(prefix="/v1", tags=["v1"], dependencies=[Depends(known_names)])


@router.post("/attention", openapi_extra=OPENAPI)
async def attention(
    request: Request,
    service: CurrentService,
    slot: ReservedSlot,
    model: Model = None,
    patch: Annotated[
        int | None,
        Query(ge=0, le=MAX_TOKENS, description="The patch that attends, row by row; default the class token."),
    ] = None,
) -> JSONResponse:
    """The attention weights of one token on the patches, of all layers and heads, as base64 of float32."""
    served = service.model(model)
    _, seen = await only_image(request, service, served)
    (weights,) = await service.compute(served.name, Attention(patch), [seen])
    data = base64.b64encode(weights.astype("<f4").tobytes()).decode()
    return JSONResponse(
        {"model": served.name, "patch": patch, "region": shares(seen[1]), "shape": weights.shape, "weights": data}
    )


@router.post("/merge", openapi_extra=OPENAPI)
async def merge(
    request: Request,
    service: CurrentService,
    slot: ReservedSlot,
    model: Model = None,
    r: Annotated[int, Query(ge=0, le=MAX_TOKENS, description="Patch tokens to merge in each layer.")] = 8,
    top: Annotated[int, Query(ge=1, le=MAX_TOP, description="How many classes to name.")] = 5,
) -> JSONResponse:
    """Token merging: which token each patch is part of after each layer, and the prediction with merging."""
    served = service.model(model)
    _, seen = await only_image(request, service, served)
    (merged,) = await service.compute(served.name, Merge(r), [seen])
    return JSONResponse(
        {
            "model": served.name,
            "r": r,
            "region": shares(seen[1]),
            "sources": merged.sources.tolist(),
            "prediction": None if merged.prediction is None else merged.prediction.to_dict(top),
        }
    )
