"""The real thing: `vitrail serve` in a separate process on a free port, its models in another."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from asking import PNG, counts, files
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from vitrail.cli import main

START = 120  # seconds that a start may take on a busy machine
QUEUE, DRAIN = 8, 0.5
EXAMPLES = 12  # of requests for each operation and mode


class Server:
    """A running server: ``url``, ``process``, and what it printed."""

    def __init__(self, command, log):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stderr=file, start_new_session=True)

    def wait(self):
        self.url = wait_for(self._address, START)
        self.client = httpx.Client(base_url=self.url, timeout=30)
        wait_for(self.ready, START)

    def _address(self):
        assert self.process.poll() is None, self.log.read_text()
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("serving at ")]
        return lines[0].split()[2] if lines else None

    def ready(self):
        return self.client.get("/readyz").status_code == 200

    def model_process(self):
        below = [pid for child in children(self.process.pid) for pid in children(child)]
        (pid,) = [pid for pid in below if Path(f"/proc/{pid}/comm").read_text().strip() == "vitrail models"]
        return pid


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    return result


def children(pid):
    """Process ids of all that ``pid`` has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


@contextmanager
def running(command, log):
    server = Server(command, log)
    try:
        server.wait()
        yield server
        server.client.close()
    finally:
        with suppress(ProcessLookupError):  # it has ended already, with all its kin
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two weights files, a classifier's and a regression's, by task."""
    import torch

    from vitrail import registry
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.vit import ViTConfig

    folder = tmp_path_factory.mktemp("served")
    model = ViTConfig(image_size=(16, 24), patch_size=8, dim=32, depth=2, heads=2, mlp_dim=48)
    heads = {
        "classification": {"classes": ("ant", "bee", "cat", "dog")},
        "regression": {"targets": ("height",), "mean": (1.5,), "std": (0.5,)},
    }
    generator = torch.Generator().manual_seed(3)
    for name, head in heads.items():
        module = registry.load("tasks", name)
        task = module.Task(module.Config(model=model, **head))
        for parameter in task.parameters():
            torch.nn.init.normal_(parameter, 0.05, 0.3, generator=generator)
        Predictor(task, PreprocessConfig(size=(16, 24)), device="cpu").save(folder / f"{name}.safetensors")
    return {name: str(folder / f"{name}.safetensors") for name in heads}


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    limits = f"--queue {QUEUE} --batch-size 4 --max-body 100000 --model-seconds 4".split()
    command = [sys.executable, "-m", "vitrail", "serve", weights["classification"], f"size={weights['regression']}"]
    log = tmp_path_factory.mktemp("log") / "log"
    with running([*command, "--port", "0", "--device", "cpu", *limits], log) as server:
        yield server
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def expected(weights):
    """``expected(image)``: the label that the library gives."""
    from vitrail.loading import load

    predictor = load(weights["classification"], device="cpu")
    return lambda image: predictor.predict(image).label


def test_it_says_what_it_resolved(server):
    log = server.log.read_text()
    for words in ("up to 4 images, waiting up to 5 ms", "8 images in the queue", "100,000 bytes", "serving at"):
        assert words in log
    assert "auto: 8 batches" not in log, "the queue was given"


def test_two_models_answer_over_http(server, expected, png):
    models = server.client.get("/v1/models").json()["models"]
    assert [(each["name"], each["task"]) for each in models] == [
        ("classification", "classification"),
        ("size", "regression"),
    ]
    image = png(5)
    said = server.client.post("/v1/predict", content=image, headers=PNG).json()["predictions"][0]
    assert said["label"] == expected(image)
    number = server.client.post("/v1/predict?model=size", files=files(image, image)).json()["predictions"]
    assert np.isfinite([each["values"]["height"] for each in number]).all()
    assert number[0] == number[1]


def test_a_body_too_large_is_told_so_over_a_real_connection(server):
    def chunks():
        for _ in range(100):
            yield bytes(50_000)

    declared = server.client.post("/v1/predict", content=bytes(3_000_000), headers=PNG)
    assert declared.status_code == 413
    assert server.client.post("/v1/predict", content=chunks(), headers=PNG).status_code == 413
    assert server.ready()


def test_who_sends_slowly_takes_no_place_and_who_leaves_gives_the_memory_back(server):
    def held():
        text = server.client.get("/metrics").text
        assert "vitrail_accepted_images 0.0" in text
        (line,) = re.findall(r"vitrail_body_bytes (\d)", text)
        return int(line)

    address = server.client.base_url.host, server.client.base_url.port
    with socket.create_connection(address) as connection:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        connection.sendall(f"{head}Content-Length: 5000\r\n\r\nhello".encode())
        wait_for(lambda: held() == len("hello"), 5)
    wait_for(lambda: held() == 0, 5)


def test_counters_reconcile_under_load(server, png):
    before = counts(server.client.get("/metrics").text)
    with ThreadPoolExecutor(12) as pool, httpx.Client(base_url=server.url, timeout=30) as client:
        posts = [pool.submit(client.post, "/v1/predict", files=files(png(i), png(i))) for i in range(60)]
        statuses = [post.result().status_code for post in posts]
    after = counts(server.client.get("/metrics").text)
    mine = {status: statuses.count(status) for status in set(statuses)}
    assert set(mine) <= {200, 503}
    grown = {key[2]: after[key] - before.get(key, 0) for key in after if key[0] == "/v1/predict"}
    assert {status: count for status, count in grown.items() if count} == mine


def test_a_full_queue_refuses_within_a_moment(server, png):
    """The models' process is stopped meanwhile, so that nothing moves."""
    model = server.model_process()
    os.kill(model, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(QUEUE) as pool:
            posts = [pool.submit(post_alone, server, png(i)) for i in range(QUEUE)]
            wait_for(lambda: f"vitrail_accepted_images {QUEUE}.0" in server.client.get("/metrics").text, 3)
            begun = time.monotonic()
            refused = [post_alone(server, png(i)) for i in range(5)]
            taken = time.monotonic() - begun
            os.kill(model, signal.SIGCONT)
            assert [post.result().status_code for post in posts] == [200] * QUEUE
    finally:
        os.kill(model, signal.SIGCONT)
    assert [(each.status_code, "retry-after" in each.headers) for each in refused] == [(503, True)] * 5
    assert taken < 2


@pytest.mark.fuzz
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_nothing_that_the_schema_allows_or_forbids_makes_it_fail(mode, server):
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    conformance = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
    tried = set()

    def conform(case):
        case.call_and_validate(checks=[not_a_server_error, *conformance, checks.unsupported_method])
        tried.add(case.operation.path)

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for operation in (result.ok() for result in schema.get_all_operations()):
        cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
        with suppress(Unsatisfiable):  # nothing to get wrong
            settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))(given(cases)(conform))()
    assert {f"/v1/{each}" for each in ("predict", "embed", "explain", "attention", "merge")} <= tried
    assert "/v2/models/{name}/infer" in tried


@pytest.mark.parametrize("fate", ["killed", "hung"])
def test_models_that_die_or_hang_are_replaced_and_those_who_wait_are_told(fate, server, png, expected):
    model = server.model_process()
    os.kill(model, signal.SIGSTOP)  # so that requests are in flight for sure
    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(post_alone, server, png(i)) for i in range(6)]
        wait_for(lambda: "vitrail_accepted_images 6.0" in server.client.get("/metrics").text, 3)
        begun = time.monotonic()
        if fate == "killed":
            os.kill(model, signal.SIGKILL)
        answers = [post.result() for post in posts]
        taken = time.monotonic() - begun
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")] * 6
    assert taken < (2 if fate == "killed" else 4 + 2)
    assert server.client.get("/healthz").status_code == 200
    assert server.client.get("/readyz").status_code == 503
    assert server.client.post("/v1/predict", content=png(), headers=PNG).status_code == 503
    wait_for(server.ready, START)
    assert server.model_process() != model
    answer = server.client.post("/v1/predict", content=png(1), headers=PNG)
    assert answer.json()["predictions"][0]["label"] == expected(png(1))
    assert not Path(f"/proc/{model}").exists()


TWIN = """
import sys
from vitrail.serve import Limits, serve

if __name__ == "__main__":
    limits = Limits(batch_wait=0.2, drain=float(sys.argv[2]))
    serve(sys.argv[1], port=0, limits=limits)
"""


def test_sigterm_loses_no_accepted_request(weights, tmp_path, png):
    """Several clients post all the time: whoever posted before the listening ended has an answer."""
    (tmp_path / "twin.py").write_text(TWIN)
    command = [sys.executable, str(tmp_path / "twin.py"), weights["classification"], str(DRAIN)]
    with running(command, tmp_path / "log") as server:
        sent, over, health = [], threading.Event(), []

        def post_on():
            while not over.is_set():
                begun = time.monotonic()
                try:
                    answer = post_alone(server, png()).status_code
                except httpx.TransportError as error:
                    answer = error
                    over.set()
                sent.append((begun, answer))

        def watch():
            while not over.is_set():
                begun = time.monotonic()
                with suppress(httpx.TransportError):
                    answer = httpx.get(f"{server.url}/readyz", verify=False)
                    health.append((begun, time.monotonic(), answer.status_code))
                time.sleep(0.02)

        with ThreadPoolExecutor(6) as pool:
            for _ in range(5):
                pool.submit(post_on)
            pool.submit(watch)
            time.sleep(0.6)
            helpers = children(server.process.pid)
            forked = [pid for helper in helpers for pid in children(helper)]
            signalled = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0, server.log.read_text()
        sure = [answer for begun, answer in sent if begun < signalled + DRAIN - 0.1]
        assert len(sure) > 10
        assert set(sure) == {200}
        assert any(begun > signalled and answer == 200 for begun, answer in sent), "it listened a moment longer"
        assert {status for _, ended, status in health if ended < signalled} == {200}
        assert {status for begun, _, status in health if begun > signalled + 0.2} == {503}
        assert len(helpers) == 2, "the one that forks the others, and multiprocessing's own"
        assert len(forked) == 3, "the models' process, and those that read"
        wait_for(lambda: not [pid for pid in helpers + forked if Path(f"/proc/{pid}").exists()], 10)


def post_alone(server, image):
    """On a connection of its own."""
    return httpx.post(f"{server.url}/v1/predict", files=files(image), timeout=30, verify=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/run", "--port", "0"], "there is no run or weights file '/nowhere/run'"),
        (["{weights}", "--port", "{taken}"], "cannot listen on 127.0.0.1:{taken}"),
    ],
)
def test_one_line_if_it_cannot_start(arguments, words, weights, server, capfd):
    values = {"weights": weights["classification"], "taken": server.url.rpartition(":")[2]}
    assert main(["serve", *(each.format(**values) for each in arguments), "--device", "cpu"]) == 2
    printed = capfd.readouterr().err
    assert printed.splitlines()[-1].startswith("vitrail: error: ")
    assert words.format(**values) in printed.splitlines()[-1]
    assert "Traceback" not in printed
