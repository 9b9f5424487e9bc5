"""Bad input and every limit, with the models in this process."""

from __future__ import annotations

import asyncio

import pytest
from asking import JSON, PNG, b64, files

# bad input -------------------------------------------------------------------------------------------------------


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}


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
    assert answers[0].json() == {"error": "the body has more than 1000 bytes (--max-body)"}
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
