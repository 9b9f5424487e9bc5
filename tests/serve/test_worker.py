"""The models' process as seen by the server, with its life cut short in every way."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from vitrail.data.transforms.geometry import identities
from vitrail.errors import UserError
from vitrail.serve import worker
from vitrail.serve.jobs import Job
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


@dataclass(frozen=True)
class Slow(Job):
    """A model that takes its time."""

    seconds: float

    def run(self, predictor, pixels, geometries):
        time.sleep(self.seconds)
        return [None] * len(pixels)


@pytest.fixture
def talk(tiny_predictor, tmp_path, monkeypatch):
    """``talk(conversation, seconds)`` with a worker whose model cannot be loaded while the file ``gone`` exists."""
    monkeypatch.setattr(worker, "RESTART_DELAYS", (0.0, 0.2))

    def run(conversation, seconds=20):
        async def main():
            async with Worker({"model": str(tmp_path / "gone")}, Settings(tiny_predictor()), seconds) as found:
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


def test_a_batch_that_waits_for_others_is_not_late(talk, capfd):
    """Three batches of 0.7 s in flight, at a limit of 1.2 s for each."""

    async def conversation(found):
        assert await asyncio.gather(*(found(batch(Slow(0.7))) for _ in range(3))) == [[None] * 3] * 3
        await asyncio.sleep(1.3)
        assert found.up, "an idle worker has no limit"
        assert found.restarts == 0

    talk(conversation, seconds=1.2)
    assert "did not respond" not in capfd.readouterr().err


def test_a_batch_that_hangs_is_killed_with_those_behind_it(talk, capfd):
    async def conversation(found):
        hanging = (found(batch(Slow(seconds))) for seconds in (0.1, 60, 0.1))
        first, *others = await asyncio.gather(*hanging, return_exceptions=True)
        assert first == [None] * 3
        assert [type(each) for each in others] == [WorkerLost] * 2
        while not found.up:
            await asyncio.sleep(0.05)
        assert len(await found(batch())) == 3
        assert found.restarts == 1

    talk(conversation, seconds=1.2)
    assert "did not respond within 1.2 s; its process is killed" in capfd.readouterr().err
