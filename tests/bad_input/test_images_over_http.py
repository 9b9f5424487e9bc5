"""The corpus, as a server's clients would send it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from corpus import image_cases
from corpus_case import Case

pytest.importorskip("fastapi")

from in_process import speaking

CASES = [case for case in image_cases() if not case.needs_permissions]
KEPT = {"cut short", "limit", "HTML", "PostScript", "0 bytes"}  # causes that clients are told too


@pytest.mark.parametrize("case", CASES, ids=str)
def test_image(case: Case, tmp_path, tiny_predictor):
    data = case.build(tmp_path).read_bytes()
    predictor = tiny_predictor()

    async def main():
        async with speaking({"model": predictor}, max_body=100_000_000, max_pixels=50_000_000) as (client, _):
            return await client.post("/v1/predict", files={"images": ("x", data)})

    answer = asyncio.run(main())
    if case.expect == "reject":
        assert answer.status_code in (413, 415, 422), answer.text
        said = answer.json()["error"]
        assert said.startswith("image 0 ")
        assert str(tmp_path) not in said
        assert len(said) < 200
        assert case.cause not in KEPT or case.cause in said or "limit" in said
    else:
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["predictions"]
        expected = predictor.predict(data)
        assert prediction["label"] == expected.label
        np.testing.assert_allclose(prediction["score"], expected.score, atol=1e-5)
