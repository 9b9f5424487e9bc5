"""Scores of a quantised model, in points from 0 to 100, or of restored pictures in decibels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.batch import Batch, Targets
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source
from vitrail.data.transforms.geometry import identities
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.engines import Engine
from vitrail.errors import UserError
from vitrail.evaluation import EvaluationLoader, evaluate
from vitrail.predictions import Prediction
from vitrail.tasks import Task
from vitrail.trainable import Embedder, EncoderModule

BATCH = 8
DECIBELS: dict[str, Any] = {"unit": "dB", "budget": 0.1}
ASSUMED = 40.0  # dB against the truth of a picture that is restored well, where the truth is not known


@dataclass(frozen=True)
class Score:
    """A number that a model reaches.

    Attributes:
        name: for display, with the number of images.
        measure: of an engine.
        unit: of the number: ``points`` from 0 to 100, or ``dB``.
        budget: how much of it may be lost where nothing else is said.
    """

    name: str
    measure: Callable[[Engine], float]
    unit: str = "points"
    budget: float = 1.0


def measure_of(task: EncoderModule) -> str | None:
    """The metric of a task that is a share of something, or in decibels; None: it has none."""
    return task.share if task.monitor_mode == "min" else task.monitor


def accuracy(task: Embedder, preprocess: Preprocess, source: Source) -> Score:
    """The task's own measure on labelled images.

    Raises:
        UserError: the images have no labels, or the measure is no share of something.
    """
    measure = measure_of(task)
    if measure is None or source.kind not in task.takes or not source.target_kind.labelled:
        raise UserError(
            f"these labels (of kind {source.kind!r}) give the task {task.name!r} no accuracy; leave them out, and "
            "the predictions are compared with the model's"
        )
    loader = Loader(source, preprocess, LoaderConfig(batch_size=BATCH, workers=0), train=False)
    compute = _evaluated(task, loader, measure)
    if in_decibels(task, measure):
        return Score(f"{measure} of {len(source):,} images", compute, **DECIBELS)
    return Score(f"{measure} of {len(source):,} images", lambda engine: 100 * compute(engine))


def agreement(task: Embedder, images: Sequence[Tensor]) -> Score:
    """With the task itself: its own measure, with what it predicts in the place of labels; of restored pictures, the
    PSNR that one of 40 dB would have left. Of a model that has features alone: how far these point the same way (cosine
    similarity).

    Args:
        images: preprocessed, each (1, C, H, W), which the quantisation did not see.
    """
    batches = [torch.cat(list(each)) for _, each in groupby(images, key=lambda image: image.shape)]
    batches = [part for batch in batches for part in batch.split(BATCH)]
    measure = measure_of(task)
    if isinstance(task, Task) and measure is not None:
        compute = _evaluated(task, _Predicted(task, batches), measure)
        if in_decibels(task, measure):
            return Score(f"{measure} left of {len(images):,} images", lambda engine: left(compute(engine)), **DECIBELS)
        return Score(f"{measure} as before of {len(images):,} images", lambda engine: 100 * compute(engine))

    @torch.inference_mode()
    def similarity(engine: Engine) -> float:
        found, expected = (torch.cat([each.embed(batch) for batch in batches]) for each in (engine, task))
        return 100 * float(F.cosine_similarity(found, expected).double().mean())

    return Score(f"features as before of {len(images):,} images", similarity)


def in_decibels(task: EncoderModule, measure: str) -> bool:
    """Whether a metric of the task is in decibels."""
    return isinstance(task, Task) and measure in task.metrics().decibels


def left(psnr: float, known: float = ASSUMED) -> float:
    """The PSNR of a picture that had ``known`` before, after independent errors of another PSNR: squared errors add up.
    All in dB."""
    return -10 * math.log10(10 ** (-known / 10) + 10 ** (-psnr / 10))


class _Predicted:
    """Batches of images, as large as the input, with what the task predicts as their targets."""

    @torch.inference_mode()
    def __init__(self, task: Task[Prediction], images: Sequence[Tensor]) -> None:
        self._batches: list[Batch] = []
        for each in images:
            index = torch.arange(len(each)) + sum(len(before["images"]) for before in self._batches)
            targets = cast("Targets", task.as_targets(task.predict(each)))
            batch: Batch = {"images": each, "targets": targets, "index": index}
            if task.spatial():
                batch["geometries"] = identities(each)
            self._batches.append(batch)

    def __len__(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        return iter(self._batches)


def _evaluated(task: Embedder, loader: EvaluationLoader, measure: str) -> Callable[[Engine], float]:
    """An engine's value of a metric of the task.

    Raises:
        UserError: it has no value on these images.
    """

    def value_of(engine: Engine) -> float:
        value = evaluate(task, loader, forward=engine, progress=False).metrics[measure]
        if math.isnan(value):
            raise UserError(
                f"there is nothing in these images that {measure} could be measured on; give others, or more"
            )
        return value

    return value_of
