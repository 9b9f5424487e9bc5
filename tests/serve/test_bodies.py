"""What a body may be: ways to write base64, JSON that would explode, multipart by the letter, rates and sums."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
from asking import JSON, PNG, b64

from vitrail.serve.limits import Limits
from vitrail.serve.multipart import files
from vitrail.serve.reading import parsed, unpacked
from vitrail.serve.refusals import Refused

IMAGE = bytes(range(256)) * 3 + b"\xfb\xff"
TEXT = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(IMAGE).decode(),
        base64.urlsafe_b64encode(IMAGE).decode().rstrip("="),
        base64.encodebytes(IMAGE).decode(),
        f"data:image/png;base64,{TEXT}",
        f"DATA:;BASE64,{TEXT}",
        f"data:image/png;name=a.png;base64,{TEXT.replace('+', '%2B').replace('=', '%3D')}",
    ],
)
def test_base64_as_people_write_it(text):
    assert unpacked([text], Limits()) == [IMAGE]


@pytest.mark.parametrize(
    "text",
    ["%", "a", "ab=c", "é", "data:image/png,abcd", "data:image/png;base64", "file:///etc/passwd", 3, None, ["YWJj"]],
)
def test_what_is_no_base64(text):
    with pytest.raises(Refused) as refused:
        unpacked([text], Limits())
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b'{"":0},' * 400 + b"0]}",
        b"[" * 1001,
        b'{"a":[' + b"[]," * 600 + b"0]}",
        b'{"a":[' + b"0," * 1000 + b"0]}",
        b"{" + b'"a":1,' * 600 + b"}",
    ],
)
def test_json_values_are_counted_before_they_are_built(body):
    with pytest.raises(Refused) as refused:
        parsed(body, Limits(max_json_values=1000))
    assert (refused.value.status_code, refused.value.reason) == (413, "too many JSON values")
    assert "more than 1,000 commas, colons and brackets (--max-json-values)" in refused.value.detail


def test_json_that_is_allowed_is_parsed_within_a_second():
    few = Limits()
    worst = b'{"a":[' + b'{"":0},' * (few.max_json_values // 3 - 2) + b"0]}"
    began = time.process_time()
    parsed(worst, few)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("body", [b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": ' + b"9" * 5000 + b"}", b"[" * 5000])
def test_what_is_no_json(body):
    with pytest.raises(Refused) as refused:
        parsed(body, Limits())
    assert refused.value.status_code == 400


def test_json_is_refused_over_http_by_its_own_limit(talk, png):
    async def conversation(client, service):
        many = await client.post("/v1/predict", content=b'{"images":[' + b"[]," * 500 + b"0]}", headers=JSON)
        again = await client.post("/v1/predict", json={"images": [f"data:image/png;base64,{b64(png())[0]}"]})
        return many, again, service.held

    many, again, held = talk(conversation, max_json_values=500)
    assert many.status_code == 413
    assert again.status_code == 200
    assert held == 0


# multipart -------------------------------------------------------------------------------------------------------

TYPE = "multipart/form-data; boundary=b"


def part(contents, disposition='form-data; name="x"; filename="a.png"', more=b""):
    return b"--b\r\nContent-Disposition: " + disposition.encode() + b"\r\n" + more + b"\r\n" + contents + b"\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (part(b"1") + part(b"2") + b"--b--\r\n", TYPE, [b"1", b"2"]),
        (b"preamble\r\n" + part(b"1") + b"--b--\r\nepilogue", TYPE, [b"1"]),
        (part(b"a\r\n--c\r\n\r\n") + b"--b--", TYPE, [b"a\r\n--c\r\n\r\n"]),
        (part(b"text", 'form-data; name="x"') + part(b"1") + b"--b--\r\n", TYPE, [b"1"]),
        (part(b"1", "form-data; name=x; filename*=UTF-8''%e2%82%ac.png") + b"--b--\r\n", TYPE, [b"1"]),
        (part(b"1", more=b"Content-Type: image/png\r\n") + b"--b--\r\n", TYPE, [b"1"]),
        (part(b"1").replace(b"--b", b"--b c") + b"--b c--\r\n", 'multipart/form-data; boundary="b c"', [b"1"]),
        (part(b"1").replace(b"--b\r", b"--b  \r") + b"--b--\r\n", TYPE, [b"1"]),
        (part(b"") + b"--b--\r\n", TYPE, [b""]),
        (b"--b--\r\n", TYPE, []),
    ],
)
def test_multipart(body, kind, expected):
    assert files(body, kind, 4) == expected


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", TYPE),
        (part(b"1"), TYPE),
        (part(b"1") + b"--b--\r\n", "multipart/form-data"),
        (part(b"1") + b"--b--\r\n", "multipart/form-data; boundary="),
        (part(b"1", "form-data") + b"--b--\r\n", TYPE),
        (part(b"1", 'attachment; name="x"; filename="y"') + b"--b--\r\n", TYPE),
        (b"--b\r\n\r\n1\r\n--b--\r\n", TYPE),
        (b"--b\r\nContent-Disposition: form-data; name=x; filename=y\r\n1\r\n--b--\r\n", TYPE),
        (part(b"1", more=b"X: " + b"x" * 10_000 + b"\r\n") + b"--b--\r\n", TYPE),
    ],
)
def test_malformed_multipart(body, kind):
    with pytest.raises(Refused) as refused:
        files(body, kind, 4)
    assert refused.value.status_code == 400


def test_too_many_parts_are_refused():
    for body in (part(b"1") * 5, part(b"1", "form-data; name=x") * 10, b"\r\n--b" * 1_000_000):
        with pytest.raises(Refused) as refused:
            files(body + b"--b--\r\n", TYPE, 4)
        assert refused.value.status_code == 413


# rates and sums --------------------------------------------------------------------------------------------------


async def dripping(chunk, pause, end):
    while not end.is_set():
        yield chunk
        await asyncio.sleep(pause)


def test_slow_bodies_hold_no_place_and_are_given_up(talk, png, monkeypatch):
    monkeypatch.setattr("vitrail.serve.requests.GRACE", 0.4)

    async def conversation(client, service):
        end = asyncio.Event()
        slow = [
            asyncio.create_task(client.post("/v1/predict", content=dripping(b"x", 0.05, end), headers=PNG))
            for _ in range(6)
        ]
        while service.held < 6:
            await asyncio.sleep(0.01)
        good = await client.post("/v1/predict", content=png(), headers=PNG)
        taken = service.taken
        answers = await asyncio.wait_for(asyncio.gather(*slow), 10)
        return good, taken, answers, service.held

    good, taken, answers, held = talk(conversation, queue=2, min_rate=1000)
    assert (good.status_code, taken, held) == (200, 0, 0)
    assert [answer.status_code for answer in answers] == [408] * 6
    assert answers[0].json() == {"error": "the body came at less than 1000 bytes a second (--min-rate)"}


def test_all_bodies_together_are_bounded(talk, png):
    async def conversation(client, service):
        end = asyncio.Event()
        filling = [
            asyncio.create_task(client.post("/v1/predict", content=dripping(bytes(900), 5, end), headers=PNG))
            for _ in range(2)
        ]
        while service.held < 1800:
            await asyncio.sleep(0.01)
        refused = await client.post("/v1/predict", content=bytes(900), headers=PNG)
        end.set()
        for each in filling:
            each.cancel()
        return refused

    refused = talk(conversation, queue=2, max_body=1000)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "--queue × --max-body" in refused.json()["error"]


def test_a_lone_surrogate_is_no_failure(talk, png):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": b64(png())}
    lone = "\\ud800"

    async def conversation(client, service):
        bodies = [
            json.dumps({"id": "@", "inputs": [tensor]}).replace("@", lone),
            json.dumps({"inputs": [tensor], "outputs": [{"name": "@"}]}).replace("@", lone),
            json.dumps({"inputs": [tensor | {"name": "@"}]}).replace("@", lone),
            json.dumps({"inputs": [tensor | {"data": ["@"]}]}).replace("@", lone),
        ]
        infer = [await client.post("/v2/models/first/infer", content=each, headers=JSON) for each in bodies]
        return [*infer, *[await client.get(path) for path in ("/v2/models/%ed%a0%80", "/%ed%a0%80")]]

    answers = talk(conversation)
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 404, 404]
    assert json.loads(answers[0].content)["id"] == "\ud800"
