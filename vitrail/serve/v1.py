"""The plain endpoints: images in, JSON (or a picture) out."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image

from vitrail.data import keyed_random
from vitrail.data.media.originals import PLAIN, PictureForm
from vitrail.errors import did_you_mean
from vitrail.explain import compare, comparing, method_names, method_options, named_output
from vitrail.predictions import PicturePrediction, Prediction, SpatialPrediction
from vitrail.serve.jobs.draw import Draw, keyed
from vitrail.serve.jobs.embed import Embed
from vitrail.serve.jobs.explain import Explain
from vitrail.serve.jobs.patches import Patches
from vitrail.serve.jobs.predict import Predict
from vitrail.serve.query_names import known_names
from vitrail.serve.reading import Fitted, Room, drawn, fit_image, fit_original
from vitrail.serve.refusals import Refused
from vitrail.serve.requests import OPENAPI, encoded_images, shares
from vitrail.serve.service import QueueSlot, Service
from vitrail.serve.worker import ServedModel

T = TypeVar("T")
MAX_TOP = 1000
MAX_DRAWN, MAX_STEPS = 16, 100  # pictures of a request, and steps of the sampler
MAX_TOKENS = 1_000_000  # more than any model has
SHARE = r"(0(\.\d{1,9})?|1(\.0{1,9})?)"
POINT = f"^{SHARE},{SHARE}$"
TOO_MANY = "this route takes one image; send several requests"
Model = Annotated[str | None, Query(description="A name of /v1/models; default the first.")]
ENCODERS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"quality": 95}, "jpeg": {"quality": 95, "subsampling": 0}}
"""How restored pictures are written, by Pillow's options."""
METHODS = method_names()
OWN_LIMITS = {"lam", "disagreement"}
"""Methods that see a whole picture and say themselves how large it may be."""
COMPARING = comparing()

PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in ENCODERS}}
}

router = APIRouter(prefix="/v1", tags=["v1"], dependencies=[Depends(known_names)])


async def current_service(request: Request) -> Service:
    """The application's service; a coroutine, since FastAPI runs plain functions in a thread."""
    service: Service = request.app.state.service
    return service


async def queue_slot(service: Annotated[Service, Depends(current_service)]) -> AsyncIterator[QueueSlot]:
    """What the request holds until the response is sent; where the queue is full its body is not read."""
    with service.queue_slot() as slot:
        yield slot


CurrentService = Annotated[Service, Depends(current_service)]
ReservedSlot = Annotated[QueueSlot, Depends(queue_slot)]


@router.get("/models")
async def models(service: CurrentService) -> JSONResponse:
    """The models that are served, the default one first, and the explain methods with their options.

    Methods that ``compare`` also take two images.
    """
    served = service.worker.served.values()
    known = set().union(*(each.methods for each in served))
    methods = [
        {"name": name, "options": options, "compares": name in COMPARING}
        for name, options in method_options().items()
        if name in known
    ]
    return JSONResponse({"models": [about(each) for each in served], "methods": methods})


@router.post("/predict", openapi_extra=OPENAPI, responses=PICTURES)
async def predict(
    request: Request,
    service: CurrentService,
    slot: ReservedSlot,
    model: Model = None,
    top: Annotated[int, Query(ge=1, le=MAX_TOP, description="How many classes to name.")] = 5,
    threshold: Annotated[float | None, Query(gt=0, lt=1, description="The lowest score to predict.")] = None,
    format: Annotated[
        Literal["json", "png", "webp", "jpeg"], Query(description="Of one restored picture, which json has in base64.")
    ] = "json",
) -> Response:
    """The predictions of one or several images.

    A restored picture is stored as the one that it was made of: as PNG with its 16 bits, transparency and colour
    profile, as WebP or JPEG with 8 bits.
    """
    served = service.model(model)
    if format != "json" and not served.restores:
        raise Refused(422, f"{served.name} predicts no pictures; leave format={format} out", "option")
    images = await encoded_images(request, service, slot)
    if format != "json" and len(images) > 1:
        raise Refused(413, TOO_MANY, "too many images")
    seen, forms = await originals(images, service, served, served.room(service.limits, len(images)))
    found = await service.compute(served.name, Predict(threshold), seen)
    if format not in ("json", "png"):
        forms = [replace(form, bits=8) for form in forms]
    kept = [
        each.in_form(form) if isinstance(each, PicturePrediction) else each
        for each, form in zip(found, forms, strict=True)
    ]
    if format != "json":
        picture = await service.in_thread(picture_bytes, kept[0], format)
        return Response(picture, media_type=f"image/{format}")
    predictions = [await service.in_thread(prediction_json, each, top) for each in kept]
    return JSONResponse({"model": served.name, "predictions": predictions})


@router.post("/embed", openapi_extra=OPENAPI)
async def embed(request: Request, service: CurrentService, slot: ReservedSlot, model: Model = None) -> JSONResponse:
    """The feature vectors of one or several images."""
    served = service.model(model)
    images = await encoded_images(request, service, slot)
    seen = await decoded(images, service, served, served.room_at_once)
    vectors = await service.compute(served.name, Embed(), seen)
    return JSONResponse({"model": served.name, "embeddings": [vector.tolist() for vector in vectors]})


@router.post(
    "/generate",
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def generate(
    service: CurrentService,
    slot: ReservedSlot,
    model: Model = None,
    label: Annotated[str | None, Query(alias="class", max_length=1000, description="What to draw.")] = None,
    count: Annotated[int, Query(ge=1, le=MAX_DRAWN, description="How many pictures.")] = 1,
    seed: Annotated[int, Query(ge=0, le=2**53, description="Other numbers draw other pictures.")] = 0,
    steps: Annotated[int | None, Query(ge=1, le=MAX_STEPS, description="Of the sampler; default: the file's.")] = None,
    guidance: Annotated[float | None, Query(ge=0, le=20, description="Default: as in the file.")] = None,
    format: Annotated[Literal["json", "png"], Query(description="All in base64, or the first as a file.")] = "json",
) -> Response:
    """Pictures that a generative model draws, as PNG files that say so."""
    served = service.model(model)
    if not served.draws:
        raise Refused(422, f"{served.name} draws no pictures; ask a model that --task generation trained", "option")
    if label is not None and label not in served.classes:
        raise Refused(422, f"{served.name} draws no {label!r}; {did_you_mean(label, served.classes)}", "option")
    slot.reserve(count)
    keys = keyed_random.keys(seed, "draw", np.arange(count))
    drawn = await service.compute(served.name, Draw(label, steps, guidance), keyed(keys))
    if format == "png":
        return Response(drawn[0], media_type="image/png")
    rows = zip(keys.view(np.int64).tolist(), drawn, strict=True)
    pictures = [{"class": label, "key": str(key), "png": base64.b64encode(png).decode()} for key, png in rows]
    return JSONResponse({"model": served.name, "pictures": pictures})


@router.post(
    "/explain",
    openapi_extra=OPENAPI,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def explain(
    request: Request,
    service: CurrentService,
    slot: ReservedSlot,
    model: Model = None,
    method: Annotated[str, Query(json_schema_extra={"enum": METHODS}, description="A name of /v1/models.")] = "rollout",
    layer: Annotated[int | None, Query(ge=-1000, le=1000, description="0 the first, -1 the last.")] = None,
    head: Annotated[int | None, Query(ge=0, le=1000, description="Of attention.")] = None,
    target: Annotated[str | None, Query(max_length=1000, description="A class (gradcam, relevance, queries).")] = None,
    patch: Annotated[int | None, Query(ge=0, le=MAX_TOKENS, description="Row by row (similarity, lam).")] = None,
    point: Annotated[
        str | None, Query(pattern=POINT, description="The same as shares of the sides of what the model sees, x,y.")
    ] = None,
    format: Annotated[Literal["json", "png"], Query(description="All maps, or one drawn on the image.")] = "json",
    map: Annotated[int, Query(ge=-10_000, le=10_000, description="Which one to draw.")] = -1,
) -> Response:
    """Maps of one image on the token grid, from an explanation method.

    Of pca and similarity a second image may follow, the reference: its patches are what the first one's are compared
    with, it gives the colours, and the patch is one of its own.
    """
    served = service.model(model)
    if method not in METHODS:
        raise Refused(422, f"unknown method {method!r}; {did_you_mean(method, METHODS)}", "option")
    output = None if target is None else named_output(served.classes, target)
    if point is not None and patch is not None:
        raise Refused(422, "point and patch say the same; leave one out", "option")
    place = None if point is None else tuple(float(share) for share in point.split(","))
    asked = {"layer": layer, "head": head, "target": output, "patch": patch}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    images = await encoded_images(request, service, slot)
    if len(images) > (2 if method in COMPARING else 1):
        raise Refused(413, TOO_MANY, "too many images")
    seen = await decoded(images, service, served, None if method in OWN_LIMITS else served.room_at_once)
    if len(images) == 1:
        (maps,) = await service.compute(served.name, Explain(method, tuple(options.items()), place), seen)
    else:
        pair = await service.compute(served.name, Patches(options.get("layer", -1)), seen)
        maps = await service.in_thread(lambda: compare(method, *pair, **options))
    if format == "json":
        rows = [each.to_dict() for each in maps]
        return JSONResponse({"model": served.name, "method": method, "region": shares(seen[0][1]), "maps": rows})
    if not -len(maps) <= map < len(maps):
        raise Refused(422, f"there is no map {map}; there are {len(maps)}", "option")
    drawing = await service.readers(drawn, images[0], maps[map], served.preprocess, service.limits)
    return Response(drawing, media_type="image/png")


def about(served: ServedModel) -> dict[str, Any]:
    """A model as JSON types."""
    return {
        "name": served.name,
        "task": served.task,
        "classes": list(served.classes),
        "predicts": served.predicts,
        "draws": served.draws,
        "restores": served.restores,
        "image_size": list(served.preprocess.size),
        "channels": served.preprocess.channels,
        "dim": served.dim,
        "layers": served.layers,
        "heads": served.heads,
        "grid": list(served.grid),
        "class_token": served.class_token,
        "methods": list(served.methods),
        "parameters": served.parameters,
    }


async def only_image(request: Request, service: Service, slot: QueueSlot, served: ServedModel) -> Fitted:
    """The image of a request as the model receives it.

    Raises:
        Refused: 413 there are several, or as :mod:`vitrail.serve.requests`.
    """
    images = await encoded_images(request, service, slot)
    if len(images) > 1:
        raise Refused(413, TOO_MANY, "too many images")
    (seen,) = await decoded(images, service, served, served.room_at_once)
    return seen


async def originals(
    images: Sequence[bytes], service: Service, served: ServedModel, room: Room | None
) -> tuple[list[Fitted], list[PictureForm]]:
    """Each image as :func:`decoded`; of a model that restores pictures as finely as it is stored, and how it is."""
    if not served.restores:
        return await decoded(images, service, served, room), [PLAIN] * len(images)
    settings = served.preprocess, service.limits, room
    both = await _each(service.readers(fit_original, data, i, *settings) for i, data in enumerate(images))
    return [fitted for fitted, _ in both], [form for _, form in both]


async def decoded(images: Sequence[bytes], service: Service, served: ServedModel, room: Room | None) -> list[Fitted]:
    """Each image at the model's input size. Raises Refused as ``reading.fit_image``, the first image's error first."""
    settings = served.preprocess, service.limits, served.spatial, room
    return await _each(service.readers(fit_image, data, i, *settings) for i, data in enumerate(images))


async def _each(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all calls, in order. Raises the first one's error first."""
    results = []
    for each in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results


def picture_bytes(prediction: Prediction, format: str) -> bytes:
    """A restored picture as a file."""
    assert isinstance(prediction, PicturePrediction)
    if format == "png":
        return prediction.png_bytes()
    picture: Image.Image = Image.open(io.BytesIO(prediction.png_bytes()))
    if format == "jpeg":
        picture = picture.convert("L" if picture.mode in ("L", "LA") else "RGB")
    file = io.BytesIO()
    picture.save(file, format.upper(), icc_profile=picture.info.get("icc_profile"), **ENCODERS[format])
    return file.getvalue()


def prediction_json(prediction: Prediction, top: int) -> dict[str, Any]:
    """A prediction as JSON types; of classes and masks a map too, of pictures ``restored``, PNG in base64."""
    values = prediction.to_dict(top)
    if isinstance(prediction, PicturePrediction):
        return values | {"restored": base64.b64encode(prediction.png_bytes()).decode()}
    map_ = prediction.label_map() if isinstance(prediction, SpatialPrediction) else None
    if map_ is None:
        return values
    file = io.BytesIO()
    map_.save(file, "PNG", transparency=0)  # the background
    return values | {"map": base64.b64encode(file.getvalue()).decode()}
