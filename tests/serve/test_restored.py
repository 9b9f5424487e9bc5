"""Restored pictures by HTTP: file formats, and what the picture that was sent had."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import vitrail
from vitrail.data.media.png16 import encoded
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.nn.windows import WindowConfig
from vitrail.tasks.super_resolution import Config, Task, exact_tiles, light

BYTES = {"Content-Type": "application/octet-stream"}


def restoring(scale: int = 2) -> vitrail.Predictor:
    model = dataclasses.replace(light(), dim=8, heads=2, mlp_dim=16, depth=2, image_size=(12, 12))
    torch.manual_seed(0)
    task = Task(Config(model=model, scale=scale, window=WindowConfig(size=4, num_global=0, shifted=True)))
    for parameter in task.head.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    preprocess = PreprocessConfig(
        size=12, resize="none", mean=(0,), std=(1,), tiles=exact_tiles(task.config, 64),
        degrade=DegradeConfig(scale=scale),
    )  # fmt: skip
    return vitrail.Predictor(task, preprocess, device="cpu")


@pytest.fixture
def predictors(tiny_predictor):
    return {"larger": restoring(), "named": tiny_predictor()}


def stored(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (19, 14, 4), np.uint8)
    return Image.fromarray(pixels).convert("RGBA").convert(mode)


def test_what_a_picture_had_is_kept_as_in_prediction(talk, predictors):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = np.random.default_rng(1).integers(0, 65536, (9, 12, 3), np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    sent = [
        stored(photo("RGBA"), icc_profile=srgb),
        encoded(deep),
        stored(photo("L")),
        stored(photo(), "JPEG", exif=turned),
        stored(photo().convert("CMYK"), "JPEG"),
        stored(Image.new("RGB", (1, 1), (200, 10, 30))),
    ]

    async def conversation(client, service):
        files = [("images", (str(i), each)) for i, each in enumerate(sent)]
        answer = (await client.post("/v1/predict", files=files)).json()
        first = await client.post("/v1/predict", params={"format": "png"}, content=sent[1], headers=BYTES)
        return answer["predictions"], first

    found, deep_one = talk(conversation)
    for data, one in zip(sent, found, strict=True):
        expected = predictors["larger"].predict(data)
        assert one["size"] == list(expected.size)
        assert (one["bits"], one["transparent"]) == (expected.form.bits, expected.form.alpha is not None)
        again = Image.open(io.BytesIO(base64.b64decode(one["restored"])))
        expected_file = Image.open(io.BytesIO(expected.png_bytes()))
        assert again.mode == expected_file.mode
        assert again.info.get("icc_profile") == expected_file.info.get("icc_profile")
        assert abs(np.asarray(again, np.float32) - np.asarray(expected_file, np.float32)).max() <= 1
    assert found[1]["bits"] == 16
    assert found[3]["size"] == [28, 38]  # turned
    assert deep_one.headers["content-type"] == "image/png"
    assert deep_one.content[24] == 16  # bits of a sample, in the header


def test_other_file_formats_and_refusals(talk):
    async def conversation(client, service):
        answers = [
            await client.post("/v1/predict", params={"format": kind}, content=stored(photo("RGBA")), headers=BYTES)
            for kind in ("webp", "jpeg")
        ]
        for params, files, status in (
            ({"format": "png", "model": "named"}, 1, 422),
            ({"format": "png"}, 2, 413),
            ({"format": "gif"}, 1, 422),
        ):
            sent = [("images", (str(i), stored(photo()))) for i in range(files)]
            refused = await client.post("/v1/predict", params=params, files=sent)
            assert refused.status_code == status, refused.text
            assert "\n" not in refused.json()["error"]
        return answers

    webp, jpeg = talk(conversation)
    assert (webp.headers["content-type"], jpeg.headers["content-type"]) == ("image/webp", "image/jpeg")
    opened = [Image.open(io.BytesIO(each.content)) for each in (webp, jpeg)]
    assert [each.size for each in opened] == [(28, 38)] * 2
    assert [each.mode for each in opened] == ["RGBA", "RGB"]


def test_a_place_is_explained_by_shares(talk):
    async def conversation(client, service):
        params = {"method": "lam", "point": "0.25,0.75"}
        answer = await client.post("/v1/explain", params=params, content=stored(photo()), headers=BYTES)
        both = await client.post("/v1/explain", params=params | {"patch": 3}, content=stored(photo()), headers=BYTES)
        wrong = await client.post(
            "/v1/explain", params=params | {"point": "7,2"}, content=stored(photo()), headers=BYTES
        )
        models = (await client.get("/v1/models")).json()["models"]
        return answer.json(), both.status_code, wrong.status_code, {each["name"]: each["restores"] for each in models}

    answer, both, wrong, restores = talk(conversation)
    (found,) = answer["maps"]
    assert np.shape(found["values"]) == (19, 14)
    assert "rows 3 to 18, columns 0 to 13" in found["title"]
    assert (both, wrong) == (422, 422)
    assert restores == {"larger": True, "named": False}
