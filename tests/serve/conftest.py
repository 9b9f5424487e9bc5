from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")

from in_process import speaking


@pytest.fixture
def predictors(tiny_predictor):
    return {"first": tiny_predictor(), "numbers": tiny_predictor("regression", resize="square")}


@pytest.fixture
def talk(predictors):
    """``talk(conversation, token=None, **limits)`` runs ``await conversation(client, service)``."""

    def run(conversation, token=None, **limits):
        async def main():
            async with speaking(predictors, token, **limits) as (client, service):
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
