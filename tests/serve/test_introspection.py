"""Attention and merging over HTTP, against the library."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from asking import PNG, TOLERANCE, b64, files

from vitrail import compress, registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.explain import explain, method_names
from vitrail.explain.query_attention import query_attention
from vitrail.predictor import Predictor
from vitrail.vit import ViTConfig


@pytest.fixture
def predictors(tiny_predictor):
    return {
        "first": tiny_predictor(),
        "numbers": tiny_predictor("regression", resize="square"),
        "bordered": tiny_predictor(resize="pad", class_token=False),
        "relative": tiny_predictor(positions="relative"),
    }


@pytest.mark.parametrize("model", ["first", "numbers", "bordered", "relative"])
@pytest.mark.parametrize("patch", [None, 0, 5])
def test_attention_of_any_token(model, patch, talk, png, predictors):
    query = f"model={model}" + ("" if patch is None else f"&patch={patch}")
    said = talk(lambda client, _: client.post(f"/v1/attention?{query}", content=png(), headers=PNG)).json()
    assert (said["model"], said["patch"], said["shape"]) == (model, patch, [2, 2, 2, 3])
    weights = np.frombuffer(base64.b64decode(said["weights"]), "<f4").reshape(said["shape"])
    predictor = predictors[model]
    np.testing.assert_allclose(weights, query_attention(predictor.task, predictor.tensor(png()), patch), atol=1e-6)


@pytest.mark.parametrize("model", ["first", "numbers", "bordered"])
def test_the_region_is_what_the_model_sees(model, talk, png, predictors):
    async def conversation(client, service):
        paths = ("attention?", "merge?r=1&", "explain?")
        return [await client.post(f"/v1/{path}model={model}", content=png(), headers=PNG) for path in paths]

    regions = [answer.json()["region"] for answer in talk(conversation)]
    left, top, right, bottom = predictors[model].preprocess.region((30, 40))
    for region in regions:
        assert region == pytest.approx([left / 40, top / 30, right / 40, bottom / 30])


@pytest.mark.parametrize("r", [0, 1, 2])
def test_merging_layer_by_layer(r, talk, png, predictors):
    image, predictor = png(7), predictors["first"]
    said = talk(lambda client, _: client.post(f"/v1/merge?r={r}&top=2", content=image, headers=PNG)).json()
    smaller = compress.apply(predictor, "tome", r=r)
    with torch.inference_mode():
        last = smaller.task.vit(smaller.tensor(image)).source[0].reshape(2, 3).tolist()
    assert [len({each for row in layer for each in row}) for layer in said["sources"]] == [6 - r, 6 - r - min(r, 2)]
    assert said["sources"][-1] == last
    expected = smaller.predict(image).top(2)
    assert [each["label"] for each in said["prediction"]["top"]] == [label for label, _ in expected]
    np.testing.assert_allclose(
        [each["score"] for each in said["prediction"]["top"]], [score for _, score in expected], atol=TOLERANCE
    )


def test_a_pretrained_model_without_a_head_still_merges(talk, png, predictors):
    model = ViTConfig(image_size=(16, 24), patch_size=8, dim=32, depth=2, heads=2, mlp_dim=48)
    module = registry.load("pretrain", "simmim")
    task = module.Task(module.Config(model=model))
    predictors["headless"] = Predictor(task, PreprocessConfig(size=(16, 24)), device="cpu")

    merged = talk(lambda client, _: client.post("/v1/merge?r=1&model=headless", content=png(), headers=PNG))
    assert merged.json()["prediction"] is None
    assert len(merged.json()["sources"]) == 2


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("attention?patch=6", 422, "there is no patch 6; this image has patches 0 to 5"),
        ("attention?patch=-1", 422, "patch: "),
        ("attention?patch=x", 422, "patch: "),
        ("attention?model=third", 404, "there is no model 'third'"),
        ("merge?r=4", 422, "a layer can merge at most half of its 6 patches"),
        ("merge?r=-1", 422, "r: "),
        ("merge?r=10000000", 422, "r: "),
        ("merge?top=0", 422, "top: "),
        ("merge?model=relative&r=1", 422, "relative positions belong to pairs of patches"),
    ],
)
def test_refusals(path, status, words, talk, png):
    answer = talk(lambda client, _: client.post(f"/v1/{path}", content=png(), headers=PNG))
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize("path", ["attention", "merge"])
def test_one_good_image_at_a_time_and_a_place_for_it(path, talk, png):
    async def conversation(client, service):
        post = client.post
        several = await post(f"/v1/{path}", files=files(png(), png()))
        damaged = await post(f"/v1/{path}", content=png()[:200], headers=PNG)
        service.taken = service.limits.queue_size
        full = await post(f"/v1/{path}", content=png(), headers=PNG)
        return several, damaged, full

    several, damaged, full = talk(conversation)
    assert (several.status_code, damaged.status_code, full.status_code) == (413, 422, 503)
    assert damaged.json() == {"error": "image 0 is cut short"}
    assert full.headers["retry-after"] == "1"


def test_models_tell_what_can_be_asked_of_them(talk):
    said = talk(lambda client, _: client.get("/v1/models")).json()
    first, bordered = said["models"][0], said["models"][2]
    assert (first["grid"], first["layers"], first["heads"], first["predicts"]) == ([2, 3], 2, 2, True)
    assert (first["class_token"], bordered["class_token"]) == (True, False)
    assert [each["name"] for each in said["methods"]] == [
        each for each in method_names() if each not in ("queries", "lam", "disagreement")
    ]
    assert first["methods"] == [each["name"] for each in said["methods"]]
    assert {each["name"] for each in said["methods"] if "target" in each["options"]} == {"gradcam", "relevance"}
    assert {each["name"] for each in said["methods"] if each["compares"]} == {"pca", "similarity"}


@pytest.mark.parametrize("model", ["first", "bordered"])
@pytest.mark.parametrize(
    ("method", "options"), [("pca", {"layer": 0}), ("similarity", {"patch": 4}), ("similarity", {})]
)
def test_patches_of_two_images_are_compared(method, options, model, talk, png, predictors):
    one, other, predictor = png(1), png(2, size=(50, 30)), predictors[model]

    async def conversation(client, service):
        path = f"/v1/explain?{urlencode({'model': model, 'method': method, **options})}"
        return [
            await client.post(path, content=one, headers=PNG),
            await client.post(path, files=files(one, other)),
            await client.post(path, json={"images": b64(one, other)}),
            await client.post(f"{path}&format=png", files=files(one, other)),
            await client.post(path, files=files(one, other, one)),
        ]

    alone, pair, packed, drawing, three = talk(conversation)
    expected = [
        explain(predictor.task, predictor.tensor(one), method, reference=reference, **options)[0].to_dict()
        for reference in ((), (predictor.tensor(other),))
    ]
    for answer, theirs in zip((alone, pair), expected, strict=True):
        (found,) = answer.json()["maps"]
        assert found.keys() == theirs.keys()
        assert found["title"] == theirs["title"]
        np.testing.assert_allclose(found["values"], theirs["values"], atol=TOLERANCE)
    assert packed.json() == pair.json()
    assert alone.json()["region"] == pair.json()["region"]
    assert (drawing.status_code, drawing.headers["content-type"]) == (200, "image/png")
    assert three.status_code == 413


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("method=rollout", 413, "this route takes one image"),
        ("method=similarity&patch=6", 422, "there is no patch 6; this image has patches 0 to 5"),
        ("method=similarity&layer=2", 422, "there is no layer 2"),
        ("method=pca&patch=1", 422, "unknown setting 'patch'"),
    ],
)
def test_refusals_of_two_images(path, status, words, talk, png):
    answer = talk(lambda client, _: client.post(f"/v1/explain?{path}", files=files(png(), png(1))))
    assert answer.status_code == status
    assert words in answer.json()["error"]
