"""The Open Inference Protocol, version 2."""

from __future__ import annotations

import json

import numpy as np
import pytest
from asking import TOLERANCE, b64


def test_metadata_of_two_models(talk, predictors):
    async def conversation(client, service):
        paths = ("/v2", "/v2/models/first", "/v2/models/numbers", "/v2/models/first/ready", "/v2/models/none")
        return [await client.get(path) for path in paths]

    server, first, numbers, ready, unknown = talk(conversation)
    assert server.json()["name"] == "vitrail"
    assert set(server.json()) == {"name", "version", "extensions"}
    outputs = {name: [(each["name"], each["shape"]) for each in found.json()["outputs"]]
               for name, found in (("first", first), ("numbers", numbers))}  # fmt: skip
    assert outputs == {
        "first": [("probabilities", [-1, 4]), ("prediction", [-1])],
        "numbers": [("values", [-1, 2]), ("prediction", [-1])],
    }
    assert first.json()["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, 3, 16, 24]},
    ]
    assert ready.json()["ready"] is True
    assert unknown.status_code == 404
    assert "did you mean" in unknown.json()["error"] or "choose one of" in unknown.json()["error"]


@pytest.mark.parametrize("nested", [False, True])
def test_infer_from_images_and_from_pixels(nested, talk, png, predictors):
    predictor, images = predictors["first"], [png(i) for i in range(2)]
    pixels = np.stack([predictor.preprocess.pixels(predictor.read(image)).numpy() for image in images])
    data = pixels.tolist() if nested else pixels.reshape(-1).tolist()
    requests = [
        {"id": "x", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": b64(*images)}]},
        {
            "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [2, 3, 16, 24], "data": data}],
            "outputs": [{"name": "probabilities"}],
        },
    ]

    async def conversation(client, service):
        return [(await client.post("/v2/models/first/infer", json=each)).json() for each in requests]

    full, chosen = talk(conversation)
    expected = predictor.predict(images)
    assert full["id"] == "x"
    assert full["model_name"] == chosen["model_name"] == "first"
    assert "id" not in chosen
    assert [each["name"] for each in full["outputs"]] == ["probabilities", "prediction"]
    (tensor,) = chosen["outputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("FP32", [2, 4])
    for outputs in (full["outputs"][0], tensor):
        found = np.reshape(outputs["data"], outputs["shape"])
        np.testing.assert_allclose(found, [each.probabilities for each in expected], atol=TOLERANCE)
    assert [json.loads(text)["label"] for text in full["outputs"][1]["data"]] == [each.label for each in expected]


def tensor(**changes):
    ok = {"name": "pixels", "datatype": "UINT8", "shape": [1, 3, 16, 24], "data": [7] * 1152}
    return {"inputs": [ok | changes]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (tensor(), 200),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"[]", 400),
        ({}, 400),
        ({"inputs": []}, 400),
        ({"inputs": [3]}, 400),
        (tensor(name="x"), 400),
        (tensor(datatype="FP32"), 400),
        (tensor(shape=[1, 3, 16, 25]), 400),
        (tensor(shape="1"), 400),
        (tensor(shape=[-1, 3, 16, 24]), 400),
        (tensor(shape=[2, 3, 16, 24]), 400),
        (tensor(shape=[10**12, 3, 16, 24]), 400),
        (tensor(shape=[1000, 3, 16, 24]), 413),
        (tensor(data=[7] * 1151), 400),
        (tensor(data=[256] * 1152), 400),
        (tensor(data=[-1] * 1152), 400),
        (tensor(data=[10**30] * 1152), 400),
        (tensor(data=[0.5] * 1152), 400),
        (tensor(data=["7"] * 1152), 400),
        (tensor(data=[[1], [2, 3]]), 400),
        (tensor(data={}), 400),
        (tensor() | {"outputs": [{"name": "x"}]}, 400),
        (tensor() | {"outputs": [{"name": []}]}, 400),
        (tensor() | {"outputs": 3}, 400),
        (tensor(name="image", datatype="BYTES", shape=[1], data=["%%%"]), 400),
        (tensor(name="image", datatype="BYTES", shape=[1], data=[3]), 400),
        (tensor(name="image", datatype="BYTES", shape=[2], data=["aGk="]), 400),
        (tensor(name="image", datatype="BYTES", shape=[1], data=["aGk="]), 415),
    ],
)
def test_infer_refuses_and_never_fails(body, status, talk):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = talk(lambda client, _: client.post("/v2/models/first/infer", content=content))
    assert answer.status_code == status, answer.text
    assert status == 200 or set(answer.json()) == {"error"}
