"""Every route and every limit, with the models in this process."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from in_process import InProcess
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from vitrail.explain import explain, method_names
from vitrail.explain.overlay import overlay
from vitrail.serve.application import build
from vitrail.serve.limits import Limits
from vitrail.serve.service import Service

TOLERANCE = 1e-5  # of probabilities and features between a batch and one image, in fp32
PNG = {"Content-Type": "image/png"}


def b64(*images):
    return [base64.b64encode(image).decode() for image in images]


def files(*images):
    return [("images", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]


def counts(text):
    """Responses by (route, method, status)."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {
        (s.labels["route"], s.labels["method"], int(s.labels["status"])): s.value
        for s in samples
        if s.name == "vitrail_responses_total"
    }


def ways(images):
    """The same images in each form that a body may have."""
    return {
        "multipart": {"files": files(*images)},
        "json": {"json": {"images": b64(*images)}},
        "raw": {"content": images[0], "headers": PNG},
        "bytes": {"content": images[0], "headers": {"Content-Type": "application/octet-stream"}},
    }


@pytest.mark.parametrize("way", list(ways([b""])))
def test_predict_and_embed_say_what_the_predictor_says(way, talk, png, predictors):
    images = [png(i) for i in range(3)]
    kept = images if way in ("multipart", "json") else images[:1]

    async def conversation(client, service):
        return (
            await client.post("/v1/predict?top=2", **ways(images)[way]),
            await client.post("/v1/embed?model=numbers", **ways(images)[way]),
        )

    said, vectors = talk(conversation)
    assert said.status_code == 200, said.text
    assert said.json()["model"] == "first"
    assert len(said.json()["predictions"]) == len(kept)
    for mine, theirs in zip(said.json()["predictions"], predictors["first"].predict(kept), strict=True):
        assert mine["label"] == theirs.label
        assert [each["label"] for each in mine["top"]] == [label for label, _ in theirs.top(2)]
        np.testing.assert_allclose([e["score"] for e in mine["top"]], [s for _, s in theirs.top(2)], atol=TOLERANCE)
    np.testing.assert_allclose(vectors.json()["embeddings"], predictors["numbers"].embed(kept), atol=TOLERANCE)


def test_a_batch_of_strangers_gives_what_each_would_get_alone(talk, png, predictors):
    images = [png(i, size=(20 + i, 50 - i)) for i in range(7)]

    async def conversation(client, service):
        service.worker.open.clear()
        posts = [client.post("/v1/embed", content=image, headers=PNG) for image in [png(99), *images]]
        tasks = [asyncio.create_task(each) for each in posts]
        while len(service.batcher) + sum(service.worker.sizes) < 8:
            await asyncio.sleep(0.01)
        service.worker.open.set()
        return await asyncio.gather(*tasks), service.worker.sizes

    answers, sizes = talk(conversation, batch_size=8, batch_wait=0.5)
    assert max(sizes) > 1
    alone = [predictors["first"].embed(image) for image in images]
    together = [answer.json()["embeddings"][0] for answer in answers[1:]]
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)


@pytest.mark.parametrize("method", method_names())
def test_explain(method, talk, png, predictors):
    predictor, image = predictors["first"], png(3)

    async def conversation(client, service):
        post = client.post
        return (
            await post(f"/v1/explain?method={method}", content=image, headers=PNG),
            await post(f"/v1/explain?method={method}&format=png&map=0", content=image, headers=PNG),
        )

    told, drawn = talk(conversation)
    maps = explain(predictor.task, predictor.tensor(image), method)
    assert [each["title"] for each in told.json()["maps"]] == [each.title for each in maps]
    for mine, theirs in zip(told.json()["maps"], maps, strict=True):
        np.testing.assert_allclose(mine["values"], theirs.values, atol=1e-5)
    assert drawn.headers["content-type"] == "image/png"
    expected = overlay(predictor.picture(image), maps[0], predictor.preprocess.region((30, 40)))
    found = np.asarray(Image.open(io.BytesIO(drawn.content)), int)
    assert np.abs(found - np.asarray(expected, int)).max() <= 2


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("method=os.path", 422, "unknown method"),
        ("method=rolout", 422, "did you mean 'rollout'"),
        ("method=attention&layer=9", 422, "there is no layer 9"),
        ("method=gradcam&layer=x", 422, "layer"),
        ("method=gradcam&target=zebra", 422, "unknown class 'zebra'"),
        ("method=rollout&head=1", 422, "unknown setting 'head'"),
        ("method=rollout&format=png&map=5", 422, "there is no map 5"),
        ("model=third", 404, "there is no model 'third'"),
    ],
)
def test_explain_refuses(query, status, words, talk, png):
    answer = talk(lambda client, _: client.post(f"/v1/explain?{query}", content=png(), headers=PNG))
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_target_by_name_is_that_output(talk, png):
    async def conversation(client, service):
        post = client.post
        return [
            (await post(f"/v1/explain?method=gradcam&target={each}", content=png(), headers=PNG)).json()["maps"]
            for each in ("cat", "2", "bee")
        ]

    by_name, by_number, other = talk(conversation)
    assert by_name == by_number != other


# the Open Inference Protocol -------------------------------------------------------------------------------------


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


# bad input -------------------------------------------------------------------------------------------------------


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 415),
        (b"hello", {"Content-Type": "text/plain"}, 415),
        (b"hello", PNG, 415),
        (b"", PNG, 415),
        (b"x", PNG | {"Content-Encoding": "gzip"}, 415),
        (b"{", JSON, 400),
        (b"\xff", JSON, 400),
        (b"3", JSON, 400),
        (b'{"images": []}', JSON, 400),
        (b'{"images": "x"}', JSON, 400),
        (b'{"images": [1]}', JSON, 400),
        (b'{"images": ["%"]}', JSON, 400),
        ('{"images": ["é"]}'.encode(), JSON, 400),
        (b'{"images": ["http://127.0.0.1/x.png"]}', JSON, 400),
        (b'{"images": ["L2V0Yy9wYXNzd2Q="]}', JSON, 415),  # /etc/passwd
        (b'{"url": "http://127.0.0.1/x.png"}', JSON, 400),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", BOUNDARY, 400),
        (b"--b--\r\n", BOUNDARY, 400),
        (b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\n/etc/passwd\r\n--b--\r\n', BOUNDARY, 400),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", BOUNDARY, 400),
    ],
)
def test_bad_bodies(content, headers, status, talk):
    answer = talk(lambda client, _: client.post("/v1/predict", content=content, headers=headers))
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


def test_a_bad_image_is_named_by_its_number_and_its_cause_alone(talk, png):
    async def conversation(client, service):
        cut = await client.post("/v1/predict", files=files(png(), png()[:200]))
        return cut, service.taken

    answer, taken = talk(conversation)
    assert answer.status_code == 422
    assert answer.json() == {"error": "image 1 is cut short"}
    assert taken == 0


# limits ----------------------------------------------------------------------------------------------------------


async def dripping(num_chunks, size, seen):
    for i in range(num_chunks):
        seen.append(i)
        yield bytes(size)
        await asyncio.sleep(0)


def test_a_body_is_cut_off_while_it_arrives(talk, png):
    seen = []

    async def conversation(client, service):
        post = client.post
        return (
            await post("/v1/predict", content=bytes(1001), headers=PNG),
            await post("/v1/predict", content=dripping(100, 300, seen), headers=PNG),
            await post("/v2/models/first/infer", content=dripping(100, 300, []), headers=JSON),
            await post("/v1/predict", files=files(bytes(2000))),
        )

    answers = talk(conversation, max_body=1000)
    assert [answer.status_code for answer in answers] == [413] * 4
    assert answers[0].json() == {"error": "the body has more than 1000 bytes"}
    assert len(seen) < 10


def test_a_body_that_never_ends_is_given_up(talk):
    async def endless():
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    async def conversation(client, service):
        return await client.post("/v1/predict", content=endless(), headers=PNG), service.taken

    answer, taken = talk(conversation, body_seconds=0.3)
    assert (answer.status_code, taken) == (408, 0)


def test_images_and_pixels_are_bounded(talk, png):
    images = [png(i) for i in range(3)]

    async def conversation(client, service):
        post = client.post
        return (
            await post("/v1/predict", files=files(*images)),
            await post("/v1/predict", json={"images": b64(*images)}),
            await post("/v1/predict", files=files(*images[:2])),
            await post("/v1/predict", content=png(size=(40, 40)), headers=PNG),
            await post("/v1/explain", files=files(*images[:2])),
        )

    answers = talk(conversation, max_images=2, max_pixels=1500)
    assert [answer.status_code for answer in answers] == [413, 413, 200, 413, 413]
    assert "more than the limit of 1,500" in answers[3].json()["error"]


def test_a_full_queue_refuses_at_once_and_forgets_nobody(talk, png):
    async def conversation(client, service):
        service.worker.open.clear()
        accepted = [asyncio.create_task(client.post("/v1/predict", files=files(png(i)))) for i in range(3)]
        while service.taken < 3:
            await asyncio.sleep(0.01)
        refused = [
            await client.post("/v1/predict", files=files(png(), png())),
            await client.post("/v1/predict", files=files(png(), png(), png())),
        ]
        accepted.append(asyncio.create_task(client.post("/v1/predict", files=files(png()))))
        while service.taken < 4:
            await asyncio.sleep(0.01)
        refused.append(await client.post("/v1/embed", content=dripping(10, 9, seen), headers=PNG))
        health = [await client.get(path) for path in ("/healthz", "/readyz", "/metrics")]
        service.worker.open.set()
        answers = await asyncio.gather(*accepted)
        return answers, refused, health, service.taken

    seen = []
    answers, refused, health, taken = talk(conversation, queue=4, max_images=3, batch_size=2)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.status_code for answer in refused] == [503] * 3
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json() == {"error": "the queue is full; try again"}
    assert seen == [], "nothing of the body was read"
    assert [answer.status_code for answer in health] == [200] * 3
    assert 'vitrail_refused_total{reason="queue full"} 3.0' in health[2].text
    assert taken == 0


# token, health, counters -----------------------------------------------------------------------------------------


def test_the_token_guards_all_but_health(talk, png):
    async def conversation(client, service):
        paths = list((await client.get("/openapi.json", headers=right)).json()["paths"])
        return paths, {
            path: [(await client.get(path, headers=headers)).status_code for headers in ({}, wrong, right)]
            for path in [*paths, "/openapi.json", "/nowhere"]
        }

    right, wrong = {"Authorization": "Bearer s3cret"}, {"Authorization": "Bearer s3cret2"}
    paths, statuses = talk(conversation, token="s3cret")
    assert len(paths) > 12
    health = {path for path, (without, *_) in statuses.items() if without == 200}
    assert health == {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    for path, (without, badly, well) in statuses.items():
        assert (without == badly == 401) == (path not in health), path
        assert well != 401, path


@pytest.mark.parametrize("header", ["s3cret", "Basic s3cret", "Bearer", "Bearer  s3cret x", "Bearer s3crét", ""])
def test_bad_tokens(header, talk):
    headers = {"Authorization": header.encode()}
    answer = talk(lambda client, _: client.get("/v1/models", headers=headers), token="s3cret")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_not_ready_while_the_model_is_away_or_the_end_is_near(talk, png):
    async def conversation(client, service):
        paths = ("/healthz", "/v2/health/live", "/readyz", "/v2/health/ready", "/v2/models/first/ready")
        service.worker.up = False
        away = [(await client.get(path)).status_code for path in paths]
        refused = await client.post("/v1/predict", content=png(), headers=PNG)
        service.worker.up, service.draining = True, True
        ending = [(await client.get(path)).status_code for path in paths]
        accepted = await client.post("/v1/predict", content=png(), headers=PNG)
        return away, refused, ending, accepted

    away, refused, ending, accepted = talk(conversation)
    assert away == ending == [200, 200, 503, 400, 400]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert accepted.status_code == 200, "whoever still comes is served"
    assert accepted.headers["connection"] == "close"


def test_counters_reconcile(talk, png):
    async def conversation(client, service):
        mine = {}
        for method, path, route, options in (
            *[("POST", "/v1/predict", "/v1/predict", {"files": files(png(1), png(2))})] * 3,
            ("POST", "/v1/predict", "/v1/predict", {"content": b"x", "headers": PNG}),
            ("POST", "/v1/embed?model=numbers", "/v1/embed", {"files": files(png())}),
            ("GET", "/v2/models/first", "/v2/models/{name}", {}),
            ("GET", "/v2/models/zzz", "/v2/models/{name}", {}),
            ("GET", "/nowhere/a", "other", {}),
            ("GET", "/nowhere/b", "other", {}),
            ("BREW", "/", "/", {}),
        ):
            answer = await client.request(method, path, **options)
            key = (route, method if method != "BREW" else "other", answer.status_code)
            mine[key] = mine.get(key, 0) + 1
        return mine, (await client.get("/metrics")).text

    mine, text = talk(conversation)
    assert counts(text) == mine
    assert 'vitrail_images_total{kind="predict",model="first"} 6.0' in text
    assert 'vitrail_images_total{kind="embed",model="numbers"} 1.0' in text


def test_a_failure_of_ours_is_counted_and_says_nothing(talk, png):
    async def fail(job):
        raise RuntimeError("/secret/path")

    async def conversation(client, service):
        service.worker.__class__ = type("Failing", (type(service.worker),), {"__call__": staticmethod(fail)})
        client._transport.raise_app_exceptions = False
        answer = await client.post("/v1/predict", content=png(), headers=PNG)
        return answer, (await client.get("/metrics")).text

    answer, text = talk(conversation)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert counts(text)["/v1/predict", "POST", 500] == 1


def test_pages_for_people_need_no_network(talk):
    async def conversation(client, service):
        return [await client.get(path) for path in ("/", "/docs", "/openapi.json")]

    start, docs, schema = talk(conversation)
    for page in (start, docs):
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text
        assert all(path in page.text for path in schema.json()["paths"])
    assert "first" in start.text


def test_the_lifespan_starts_the_models(predictors):
    async def main():
        service = Service(InProcess(predictors), Limits())
        application = build(service, None)
        async with application.router.lifespan_context(application):
            assert service.ready
        assert not service.ready

    asyncio.run(main())
