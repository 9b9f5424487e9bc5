"""The extension of the Open Inference Protocol for binary tensors, as its specification writes it."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from asking import TOLERANCE, b64

LENGTH = "Inference-Header-Content-Length"
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 3, 16, 24], "parameters": {"binary_data_size": 1152}}


def elements(*items):
    return b"".join(struct.pack("<I", len(each)) + each for each in items)


def image(data, number=1):
    parameters = {"binary_data_size": len(data)}
    return {"name": "image", "datatype": "BYTES", "shape": [number], "parameters": parameters}


def request(header, tail=b"", **headers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return {"content": text + tail, "headers": {LENGTH: str(len(text))} | headers}


def tensors(answer):
    """The outputs of an answer by name, from JSON and from the data behind it."""
    size = int(answer.headers.get(LENGTH, len(answer.content)))
    head, tail = json.loads(answer.content[:size]), answer.content[size:]
    found = {}
    for each in head["outputs"]:
        if "data" in each:
            assert "parameters" not in each
            found[each["name"]] = each["data"]
            continue
        num = each["parameters"]["binary_data_size"]
        data, tail = tail[:num], tail[num:]
        if each["datatype"] == "FP32":
            found[each["name"]] = np.frombuffer(data, "<f4").reshape(each["shape"])
        else:
            texts = []
            while data:
                end = 4 + struct.unpack("<I", data[:4])[0]
                texts.append(data[4:end].decode())
                data = data[end:]
            assert [len(texts)] == each["shape"]
            found[each["name"]] = texts
    assert tail == b""
    return found


def test_images_and_pixels_as_binary_data(talk, png, predictors):
    predictor, images = predictors["first"], [png(i) for i in range(2)]
    data = elements(*images)
    pixels = np.stack([predictor.preprocess.pixels(predictor.read(each)).numpy() for each in images])
    all_binary = {"binary_data_output": True}
    chosen = [{"name": "prediction"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    given = PIXELS | {"shape": [2, 3, 16, 24], "parameters": {"binary_data_size": pixels.nbytes}}

    async def conversation(client, service):
        post = client.post
        return [
            await post(
                "/v2/models/first/infer", **request({"inputs": [image(data, 2)], "parameters": all_binary}, data)
            ),
            await post("/v2/models/first/infer", **request({"inputs": [given]}, pixels.tobytes())),
            await post("/v2/models/first/infer", **request({"inputs": [image(data, 2)], "outputs": chosen}, data)),
            await post("/v2/models/first/infer", content=images[0], headers={LENGTH: "0"}),
            await post("/v2/models/first/versions/1/infer", **request({"id": "7", "inputs": [image(data, 2)]}, data)),
        ]

    binary, plain, mixed, raw, versioned = talk(conversation)
    expected = predictor.predict(images)
    for answer in (binary, plain, mixed, raw, versioned):
        assert answer.status_code == 200, answer.text
        found = tensors(answer)
        few = expected[: len(found["prediction"])]
        numbers = np.reshape(found["probabilities"], (len(few), 4))
        np.testing.assert_allclose(numbers, [each.probabilities for each in few], atol=TOLERANCE)
        assert [json.loads(text)["label"] for text in found["prediction"]] == [each.label for each in few]
    assert [LENGTH in answer.headers for answer in (binary, plain, mixed, raw, versioned)] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert binary.headers["content-type"] == "application/octet-stream"
    assert plain.headers["content-type"] == "application/json"
    assert list(tensors(mixed)) == ["prediction", "probabilities"]
    assert versioned.json()["id"] == "7"


DATA = bytes(1152)


@pytest.mark.parametrize(
    "options",
    [
        request({"inputs": [PIXELS]}, DATA[:-1]),
        request({"inputs": [PIXELS]}, DATA + b"x"),
        request({"inputs": [PIXELS]}),
        request({"inputs": [PIXELS | {"parameters": {"binary_data_size": -1}}]}, DATA),
        request({"inputs": [PIXELS | {"parameters": {"binary_data_size": True}}]}, b"x"),
        request({"inputs": [PIXELS | {"parameters": {"binary_data_size": 10**30}}]}, DATA),
        request({"inputs": [PIXELS | {"parameters": []}]}, DATA),
        request({"inputs": [PIXELS | {"data": [1]}]}, DATA),
        request({"inputs": [PIXELS | {"parameters": {}}]}, DATA),
        request({"inputs": [PIXELS], "parameters": 3}, DATA),
        request({"inputs": [PIXELS], "parameters": {"binary_data_output": 1}}, DATA),
        request({"inputs": [PIXELS], "outputs": [{"name": "probabilities", "parameters": {"binary_data": "x"}}]}, DATA),
        request({"inputs": [image(elements(b"x"))]}, elements(b"x")[:-1] + b""),
        request({"inputs": [image(b"\xff\xff\xff\xff1")]}, b"\xff\xff\xff\xff1"),
        request({"inputs": [image(b"12")]}, b"12"),
        request({"inputs": [image(elements(b""))]}, elements(b"")),
        request({"inputs": [image(elements(b"x"), 2)]}, elements(b"x")),
        request({"inputs": [PIXELS]}, DATA, **{LENGTH: "99999"}),
        request({"inputs": [PIXELS]}, DATA, **{LENGTH: "-1"}),
        request({"inputs": [PIXELS]}, DATA, **{LENGTH: "x"}),
        request({"inputs": [PIXELS]}, DATA, **{LENGTH: "10"}),
        {"content": b"", "headers": {LENGTH: "0"}},
        {"content": json.dumps({"inputs": [PIXELS]}).encode()},
    ],
)
def test_binary_data_that_does_not_fit_is_refused(options, talk):
    answer = talk(lambda client, _: client.post("/v2/models/first/infer", **options))
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}


def test_versions_and_metadata(talk):
    async def conversation(client, service):
        paths = ("/v2", "/v2/models/first", "/v2/models/first/versions/1", "/v2/models/first/versions/1/ready")
        paths += ("/v2/models/first/versions/2", "/v2/models/first/versions/2/ready")
        return [await client.get(path) for path in paths]

    server, model, same, ready, other, away = talk(conversation)
    assert server.json()["extensions"] == ["binary_tensor_data"]
    assert model.json() == same.json()
    assert model.json()["versions"] == ["1"]
    assert ready.json()["ready"] is True
    assert other.status_code == away.status_code == 404


def test_an_output_is_given_once(talk, png):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": b64(png())}
    body = {"inputs": [tensor], "outputs": [{"name": "probabilities"}] * 10_000}
    answer = talk(lambda client, _: client.post("/v2/models/first/infer", json=body))
    assert answer.status_code == 400
    assert answer.json() == {"error": "the output probabilities is asked for more than once"}


@pytest.mark.parametrize(
    "data",
    [
        [["x" * 100_000, *[""] * 1151]],
        [7.0] * 1152,
        [None] * 1152,
        [[[[[[7]]]]]] * 1152,
        [[7] * 1151, 7],
        [7] * 1151 + [[7]],
        [10**400] * 1152,
    ],
    ids=["one long text", "floats", "null", "deep", "ragged", "ragged at the end", "huge"],
)
def test_values_that_are_no_pixels_cost_nothing(data, talk):
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 3, 16, 24], "data": data}
    answer = talk(lambda client, _: client.post("/v2/models/first/infer", json={"inputs": [tensor]}))
    assert answer.status_code == 400
    assert "must be 1152 integers from 0 to 255" in answer.json()["error"]
