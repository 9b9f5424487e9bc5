"""Models that say where things are: answers in the pixels of the picture that was sent."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from decoders import DEFORMABLE, DETR
from PIL import Image

pytest.importorskip("fastapi")

from vitrail import registry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import explain
from vitrail.predictor import Predictor
from vitrail.serve.worker import describe
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=(16, 24), patch_size=8, dim=16, depth=1, heads=2, mlp_dim=32)
OPTIONS = {
    "detection": {"decoder": DETR, "threshold": 0.005},
    "instances": {
        "decoder": DETR,
        "masks": {"stride": 4, "dim": 8},
        "threshold": 0.005,
    },
    "segmentation": {},
    "panoptic": {"num_queries": 4, "num_blocks": 1, "num_upscale": 1, "threshold": 0.005},
    "detection_tokens": {"num_queries": 4, "threshold": 0.005},
    "detection_deformable": {"decoder": DEFORMABLE, "threshold": 0.005},
}


def build(name, resize="crop"):
    module = registry.load("tasks", name)
    task = module.Task(module.Task.configure(MODEL, ("ant", "bee"), None, OPTIONS[name]))
    return Predictor(task, PreprocessConfig(size=(16, 24), resize=resize, crop_pct=0.9), device="cpu")


@pytest.fixture
def predictors():
    return {name: build(name) for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_both_protocols_answer_in_the_pictures_pixels(talk, png, predictors, name):
    data = png(size=(30, 50))
    expected = json.loads(json.dumps(predictors[name].predict(data).to_dict()))

    async def conversation(client, service):
        plain = await client.post(f"/v1/predict?model={name}", content=data, headers={"content-type": "image/png"})
        text = base64.b64encode(data).decode()
        body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}
        v2 = await client.post(f"/v2/models/{name}/infer", json=body)
        about = await client.get("/v1/models")
        return plain.json(), v2.json(), about.json()

    plain, v2, about = talk(conversation)
    (said,) = plain["predictions"]
    map_ = said.pop("map", None)
    assert said == expected
    assert expected["size"] == [30, 50]
    assert {key: value for key, value in json.loads(v2["outputs"][0]["data"][0]).items() if key != "map"} == expected
    assert [each["predicts"] for each in about["models"]] == [True] * len(OPTIONS)
    if name == "segmentation":
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(map_))))
        np.testing.assert_array_equal(read, predictors[name].predict(data).map)
    elif name == "panoptic":
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(map_))))
        found = predictors[name].predict(data)
        np.testing.assert_array_equal(read, np.concatenate(([0], 1 + found.labels))[found.map])
    elif name == "instances":
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(map_))))
        found = predictors[name].predict(data)
        np.testing.assert_array_equal(read > 0, found.masks.any(axis=0))
        assert (read[found.masks[0]] == 1 + found.labels[0]).all()
    else:
        assert map_ is None
        assert expected["objects"]


@pytest.mark.parametrize("name", OPTIONS)
def test_pixels_are_answered_in_their_own_coordinates(talk, png, predictors, name):
    """The preprocessing has a crop, which a client that sends the model's input has done already."""
    predictor = predictors[name]
    pixels = predictor.pixels(png(size=(30, 50)))
    (expected,) = predictor.predict_pixels(pixels[None])
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, *pixels.shape], "data": pixels.flatten().tolist()}
    answer = talk(lambda client, _: client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})).json()
    said = json.loads(answer["outputs"][0]["data"][0])
    map_ = said.pop("map", None)
    assert said == json.loads(json.dumps(expected.to_dict()))
    assert said["size"] == [16, 24]
    if map_ is not None:
        read = Image.open(io.BytesIO(base64.b64decode(map_)))
        np.testing.assert_array_equal(np.asarray(read), np.asarray(expected.label_map()))


def test_a_box_over_the_whole_input_reaches_its_sides(talk, predictors, monkeypatch):
    task = predictors["detection"].task
    whole = torch.tensor([[[0.9, 0.1, 0, 0, 24, 16]]])
    monkeypatch.setattr(task, "forward", lambda images: whole)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 3, 16, 24], "data": [7] * 1152}
    answer = talk(lambda client, _: client.post("/v2/models/detection/infer", json={"inputs": [tensor]})).json()
    assert json.loads(answer["outputs"][0]["data"][0])["objects"][0]["box_xyxy"] == [0, 0, 24, 16]


def test_where_the_queries_of_a_detector_look(talk, png, predictors):
    data = png(size=(30, 50))

    async def conversation(client, service):
        ask = "/v1/explain?method=queries&target=bee&model="
        answers = [
            await client.post(f"{ask}{name}", content=data, headers={"content-type": "image/png"}) for name in OPTIONS
        ]
        return answers, (await client.get("/v1/models")).json()

    answers, about = talk(conversation)
    assert [each.status_code for each in answers] == [200, 200, 422, 422, 200, 200]
    assert answers[2].json() == {"error": "segmentation has no queries to explain; choose another method"}
    for answer, name in zip(answers, ("detection", "instances"), strict=False):
        found = explain(predictors[name].task, predictors[name].tensor(data), "queries", target=1)
        told = answer.json()["maps"]
        assert [each["title"] for each in told] == [each.title for each in found]
        for mine, theirs in zip(told, found, strict=True):
            np.testing.assert_allclose(mine["values"], theirs.values, atol=1e-5)
    assert [("queries" in each["methods"]) for each in about["models"]] == [True, True, False, False, True, True]
    assert "queries" in {each["name"] for each in about["methods"]}


def test_a_border_that_the_model_would_have_to_be_told_of_is_refused():
    with pytest.raises(UserError, match=r"finder would read padding .* resize=square"):
        describe("finder", build("detection", resize="pad"))
