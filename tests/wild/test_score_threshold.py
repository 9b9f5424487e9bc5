"""A threshold fixed at 0.5 when trained, and ``?threshold=0.1`` ignored without a word (open-mmlab/mmdetection#7002).

Siblings: detectors by queries and tokens, masks, several labels, segments; predict, evaluate, serve; tasks without one;
names that a route of the server does not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vitrail.errors import UserError
from vitrail.metrics import multilabel
from vitrail.serve.jobs.predict import Predict


def test_labels_from_a_lower_score_on(tiny_predictor) -> None:
    predictor = tiny_predictor("multilabel")
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    scores = np.sort(predictor.predict(image).probabilities)
    for threshold in scores.astype(float).tolist():
        found = predictor.at_threshold(float(np.clip(threshold, 1e-6, 1 - 1e-6))).predict(image)
        assert len(found.labels) == (scores >= found.threshold).sum()
    assert predictor.predict(image).threshold == 0.5


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, 7.0])
def test_no_score_is_such(threshold: float, tiny_predictor) -> None:
    with pytest.raises(UserError, match=r"is no score between 0 and 1; give one such as 0\.1"):
        tiny_predictor("multilabel").at_threshold(threshold)


def test_tasks_without_one_say_so(tiny_predictor) -> None:
    with pytest.raises(UserError, match="the task 'classification' predicts without a threshold of scores"):
        tiny_predictor().at_threshold(0.1)


def test_the_chosen_one_decides_what_is_counted() -> None:
    logits, present = torch.tensor([[-1.0, 2.0], [-1.0, -3.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    found: dict[str, Any] = {}
    for chosen in (None, 0.2):
        family = multilabel.Metrics(("a", "b"))
        family.chosen = chosen
        family.update(logits, present)
        found[str(chosen)] = family.compute()["recall"]
    assert found == {"None": 0.5, "0.2": 1.0}


def test_a_job_of_the_server_has_its_own(tiny_predictor) -> None:
    predictor = tiny_predictor("multilabel")
    pixels = torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    given = predictor.preprocess.geometry((16, 24))
    assert Predict(0.3).run(predictor, pixels, [given])[0].threshold == 0.3
    assert Predict() != Predict(0.3)


def test_unknown_names_of_a_query_are_refused() -> None:
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from vitrail.serve.query_names import known_names

    async def inner(size: int = 1) -> int:
        return size

    router = fastapi.APIRouter(dependencies=[fastapi.Depends(known_names)])

    @router.get("/a")
    async def read(size: int = fastapi.Depends(inner), threshold: float | None = None) -> dict[str, Any]:
        return {"size": size, "threshold": threshold}

    application = fastapi.FastAPI()
    application.include_router(router)
    with TestClient(application) as client:
        assert client.get("/a?threshold=0.1&size=3").json() == {"size": 3, "threshold": 0.1}
        refused = client.get("/a?treshold=0.1")
        assert refused.status_code == 400
        assert "the query has the unknown name 'treshold'; did you mean 'threshold'?" in refused.text
