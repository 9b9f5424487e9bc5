"""Real clients, as their users run them.

Those of other projects need libraries that fit no other environment: `make clients` installs them into one of their own
and names its Python in VITRAIL_CLIENTS. Without it they are skipped; test_binary_tensors.py sends what they send.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from in_process import listening

PYTHON = os.environ.get("VITRAIL_CLIENTS") or None
SCRIPTS = Path(__file__).parent / "clients"


@pytest.fixture
def photograph(png, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(5))
    return path


@pytest.fixture
def url(predictors):
    with listening(predictors) as address:
        yield address


def run(script, *arguments):
    if PYTHON is None:
        pytest.skip("make clients: the clients of other projects have an environment of their own")
    done = subprocess.run(
        [PYTHON, SCRIPTS / script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_tritonclient_with_its_default_settings_and_in_json(url, photograph, predictors):
    got = run("triton.py", url, photograph)
    expected = predictors["first"].predict(photograph).probabilities
    assert got["ready"] == [True] * 3
    assert got["inputs"] == ["image", "pixels"]
    np.testing.assert_allclose(got["probabilities"], [[expected]] * 4, atol=1e-5)
    assert "there is no model 'none'" in got["error"]


def test_the_client_of_kserve(url, photograph, predictors):
    got = run("kserve_rest.py", url, photograph)
    assert got["ready"] == [True] * 3
    expected = predictors["first"].predict(photograph).probabilities
    np.testing.assert_allclose(got["probabilities"], [[expected]] * 3, atol=1e-5)


def test_a_client_generated_from_the_document(url, photograph, predictors):
    got = run("generated.py", url, photograph)
    assert got == {"models": list(predictors), "labels": [predictors["first"].predict(photograph).label] * 3}


def test_curl(url, photograph, predictors):
    if (curl := shutil.which("curl")) is None:
        pytest.skip("there is no curl")

    def told(*options):
        done = subprocess.run([curl, "-s", *options], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    label = predictors["first"].predict(photograph).label
    raw = told("--data-binary", f"@{photograph}", "-H", "Content-Type: image/png", f"{url}/v1/predict")
    form = told("-F", f"images=@{photograph}", f"{url}/v1/predict")
    old = told("--http1.0", "-F", f"images=@{photograph}", f"{url}/v1/predict")
    asks = told("-H", "Expect: 100-continue", "-F", f"images=@{photograph}", f"{url}/v1/predict")
    chunked = told("-H", "Transfer-Encoding: chunked", "-F", f"images=@{photograph}", f"{url}/v1/predict")
    tensor = told("--data-binary", f"@{photograph}", "-H", "Inference-Header-Content-Length: 0",
                  f"{url}/v2/models/first/infer", "-o", "/dev/null", "-w", "%{http_code}")  # fmt: skip
    assert [json.loads(each)["predictions"][0]["label"] for each in (raw, form, old, asks, chunked)] == [label] * 5
    assert tensor == "200"
    assert told("-I", f"{url}/healthz").startswith("HTTP/1.1 200")
    assert told("-I", f"{url}/v1/predict").startswith("HTTP/1.1 405")


def test_wrk(url, photograph, tmp_path):
    if (wrk := shutil.which("wrk")) is None:
        pytest.skip("there is no wrk; the next test sends what it sends")
    script = tmp_path / "post.lua"
    script.write_text(
        f'wrk.method = "POST"; wrk.body = io.open("{photograph}", "rb"):read("*all")\n'
        'wrk.headers["Content-Type"] = "image/png"\n'
    )
    httpx.post(f"{url}/v1/predict", content=photograph.read_bytes(), headers={"Content-Type": "image/png"}, timeout=60)
    command = [wrk, "-t1", "-c4", "-d2", "--timeout", "20", "-s", str(script), f"{url}/v1/predict"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert int(re.search(r"(\d+) requests in", said)[1]) > 0
    assert "Non-2xx" not in said
    assert "Socket errors" not in said


def test_many_requests_on_one_connection_some_of_them_before_the_answer(url, photograph):
    """As wrk sends them: keep-alive, and pipelined where its script says so."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = photograph.read_bytes()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/png\r\n"
    post = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    get = f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(post * 3 + get * 2000)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 2003:
            chunk = connection.recv(1 << 20)
            assert chunk, received[-500:]
            received += chunk
    assert received.count(b'"predictions"') == 3


@contextmanager
def site(html):
    """A page on an origin of its own."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode() if self.path == "/" else b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ASK = """async ([url, bytes]) => {
    try {
        const body = new Blob([new Uint8Array(bytes)], {type: 'image/png'});
        const answer = await fetch(url + '/v1/predict', {method: 'POST', body, headers: {'X-Asked-By': 'a page'}});
        return (await answer.json()).predictions[0].label;
    } catch (error) {
        return String(error);
    }
}"""


@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_on_another_origin(allowed, browser, predictors, photograph):
    with site("<title>app</title>") as origin, listening(predictors, origins=[origin] if allowed else []) as url:
        page = browser.new_page()
        try:
            page.goto(origin)
            got = page.evaluate(ASK, [url, list(photograph.read_bytes())])
        finally:
            page.close()
    if allowed:
        assert got == predictors["first"].predict(photograph).label
    else:
        assert "Failed to fetch" in got
