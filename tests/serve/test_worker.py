"""The models' process as seen by the server, with its life cut short in every way."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrail.data.transforms.geometry import identities
from vitrail.errors import UserError
from vitrail.serve import worker
from vitrail.serve.jobs.embed import Embed
from vitrail.serve.jobs.explain import Explain
from vitrail.serve.jobs.predict import Predict
from vitrail.serve.worker import JobBatch, Worker, WorkerLost


class Settings:
    """A loader that survives pickling: what the path says decides."""

    def __init__(self, predictor):
        self.predictor = predictor

    def __call__(self, path):
        if os.path.exists(path):
            raise UserError("the file is gone; restore it")
        return self.predictor


@pytest.fixture
def talk(tiny_predictor, tmp_path, monkeypatch):
    """``talk(conversation)`` with a worker whose model cannot be loaded while the file ``gone`` exists."""
    monkeypatch.setattr(worker, "RESTART_DELAYS", (0.0, 0.2))

    def run(conversation):
        async def main():
            async with Worker({"model": str(tmp_path / "gone")}, Settings(tiny_predictor()), 20) as found:
                await asyncio.wait_for(conversation(found), 60)
            return found

        return asyncio.run(main())

    return run


def batch(job=Predict()):  # noqa: B008  frozen
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 24), np.uint8)
    return JobBatch("model", job, pixels, identities(pixels))


def test_answers_belong_to_their_questions_and_errors_to_those_who_made_them(talk, tiny_predictor):
    async def conversation(found):
        jobs = [Predict(), Embed(), Explain("rollout", (("layer", 9),)), Explain("gradcam")]
        questions = [batch(each) for each in jobs]
        said, vectors, refused, maps = await asyncio.gather(*map(found, questions), return_exceptions=True)
        predictor = tiny_predictor()
        given = torch.from_numpy(batch().pixels), batch().geometries
        for mine, theirs in (
            ([each.probabilities for each in said], [each.probabilities for each in Predict().run(predictor, *given)]),
            (vectors, Embed().run(predictor, *given)),
        ):
            assert len(mine) == 3
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
        assert len(maps) == 3
        assert isinstance(refused, UserError)
        assert "there is no layer 9" in str(refused)
        with pytest.raises(RuntimeError, match="the model failed"):
            await found(replace(batch(), model="other"))
        assert found.restarts == 0

    found = talk(conversation)
    assert not found._process.is_alive()


def test_it_is_tried_again_until_the_models_load(talk, tmp_path, capfd):
    async def conversation(found):
        (tmp_path / "gone").touch()
        os.kill(found._process.pid, signal.SIGKILL)
        while found.restarts < 2:
            await asyncio.sleep(0.05)
        assert not found.up
        with pytest.raises(WorkerLost):
            await found(batch())
        (tmp_path / "gone").unlink()
        while not found.up:
            await asyncio.sleep(0.05)
        assert len(await found(batch())) == 3

    talk(conversation)
    assert "could not be restarted: the file is gone" in capfd.readouterr().err
