from __future__ import annotations

import asyncio
import io
import re
import shutil
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")

from in_process import listening, speaking


@pytest.fixture
def predictors(tiny_predictor):
    return {"first": tiny_predictor(), "numbers": tiny_predictor("regression", resize="square")}


@pytest.fixture
def talk(predictors):
    """``talk(conversation, token=None, access=None, **limits)`` runs ``await conversation(client, service)``."""

    def run(conversation, token=None, access=None, **limits):
        async def main():
            async with speaking(predictors, token, access, **limits) as (client, service):
                return await asyncio.wait_for(conversation(client, service), 30)

        return asyncio.run(main())

    return run


@pytest.fixture
def png():
    """``png(seed)``: the bytes of a random picture."""

    def encode(seed=0, size=(30, 40)):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="module")
def browser():
    """A Chromium for one module: while it runs, no test can use asyncio in its own thread."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on the PATH: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, predictors):
    """``visit(token=None, refused=False, limits={}, **context)`` opens the page.

    At the end nothing may have been asked of another host, and the console must be empty, but for refused requests
    where the test provokes them.
    """
    with ExitStack() as stack:
        hosts, complaints = set(), []

        def open_page(token=None, refused=False, limits=None, models=None, **context):
            address = stack.enter_context(listening(models or predictors, token, **limits or {}))
            page = browser.new_context(**context).new_page()
            stack.callback(page.context.close)
            page.set_default_timeout(20_000)
            page.on("request", lambda request: hosts.add(re.sub(r"^(blob:)?(http://[^/]+)/.*", r"\2", request.url)))
            page.on("pageerror", lambda error: complaints.append(str(error)))

            def heard(message):
                if not (refused and "Failed to load resource" in message.text):
                    complaints.append(message.text)

            page.on("console", heard)
            page.goto(address)
            own.add(address)
            return page

        own = set()
        yield open_page
        assert hosts == own
        assert complaints == []


@pytest.fixture
def photo(png):
    return {"name": "photo.png", "mimeType": "image/png", "buffer": png(3, size=(60, 80))}
