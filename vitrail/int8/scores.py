"""Scores of a quantised model, in points from 0 to 100."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

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


@dataclass(frozen=True)
class Score:
    """A number from 0 to 100 that a model reaches.

    Attributes:
        name: for display, with the number of images.
        measure: of an engine.
    """

    name: str
    measure: Callable[[Engine], float]


def measure_of(task: EncoderModule) -> str | None:
    """The metric of a task that is a share of something; None: it has none."""
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
    return Score(f"{measure} of {len(source):,} images", _evaluated(task, loader, measure))


def agreement(task: Embedder, images: Sequence[Tensor]) -> Score:
    """With the task itself: its own measure, with what it predicts in the place of labels. Of a model that has features
    alone: how far these point the same way (cosine similarity).

    Args:
        images: preprocessed, each (1, C, H, W), which the quantisation did not see.
    """
    batches = [torch.cat(tuple(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
    measure = measure_of(task)
    if isinstance(task, Task) and measure is not None:
        compute = _evaluated(task, _Predicted(task, batches), measure)
        return Score(f"{measure} as before of {len(images):,} images", compute)

    @torch.inference_mode()
    def similarity(engine: Engine) -> float:
        found, expected = (torch.cat([each.embed(batch) for batch in batches]) for each in (engine, task))
        return 100 * float(F.cosine_similarity(found, expected).double().mean())

    return Score(f"features as before of {len(images):,} images", similarity)


class _Predicted:
    """Batches of images, as large as the input, with what the task predicts as their targets."""

    @torch.inference_mode()
    def __init__(self, task: Task[Prediction], images: Sequence[Tensor]) -> None:
        self._batches: list[Batch] = []
        for each in images:
            index = torch.arange(len(each)) + len(self._batches) * BATCH
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
    """Points of an engine by a metric of the task.

    Raises:
        UserError: it has no value on these images.
    """

    def points(engine: Engine) -> float:
        value = evaluate(task, loader, forward=engine, progress=False).metrics[measure]
        if math.isnan(value):
            raise UserError(
                f"there is nothing in these images that {measure} could be measured on; give others, or more"
            )
        return 100 * value

    return points
