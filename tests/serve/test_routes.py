"""Every route, with the models in this process."""

from __future__ import annotations

import asyncio
import io
import re

import numpy as np
import pytest
from asking import PNG, TOLERANCE, b64, counts, files
from in_process import InProcess
from PIL import Image

from vitrail.explain import explain, method_names
from vitrail.explain.overlay import overlay
from vitrail.serve.application import build
from vitrail.serve.limits import Limits
from vitrail.serve.service import Service


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


@pytest.mark.parametrize("method", [name for name in method_names() if name not in ("queries", "lam", "disagreement")])
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


def test_what_people_see_is_served_from_here_alone(talk):
    async def conversation(client, service):
        return [await client.get(path) for path in ("/", "/page/endpoints.html", "/docs")]

    start, endpoints, docs = talk(conversation)
    for page in (start, endpoints):
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "//" not in page.text
        assert not re.search(r"<style|style=|<script(?! type=\"module\" src=\"(?:page/)?\w+.js)", page.text)
    assert (docs.status_code, docs.headers["location"]) == (307, "page/endpoints.html")


def test_the_page_is_public_and_holds_no_secret(talk):
    async def conversation(client, service):
        start = await client.get("/")
        parts = re.findall(r'(?:href|src)="(page/[^"]+)"', start.text)
        names = ["api.js", "draw.js", *(part.removeprefix("page/") for part in parts)]
        paths = ("/page/nothing.js", "/page/__init__.py", "/page/..%2fdoor.py", "/page/", "/page")
        return start, [await client.get(f"/page/{name}") for name in names], [await client.get(path) for path in paths]

    start, found, missing = talk(conversation, token="s3cret")
    assert [answer.status_code for answer in (start, *found)] == [200] * (1 + len(found))
    assert {answer.headers["content-type"].partition(";")[0] for answer in found} == {
        "text/css",
        "text/html",
        "text/javascript",
        "image/svg+xml",
    }
    assert not re.search(r"[\">]first[\"<]", start.text), "the models' names need the token"
    assert [answer.status_code for answer in missing] == [404, 404, 404, 404, 401]


def test_the_lifespan_starts_the_models(predictors):
    async def main():
        service = Service(InProcess(predictors), Limits())
        application = build(service, None)
        async with application.router.lifespan_context(application):
            assert service.ready
        assert not service.ready

    asyncio.run(main())
