"""Scores of a quantised model, in points from 0 to 100."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.engines import Engine
from vitrail.errors import UserError
from vitrail.evaluation import evaluate
from vitrail.trainable import Embedder

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


def accuracy(task: Embedder, preprocess: Preprocess, source: Source) -> Score:
    """The task's own measure on labelled images.

    Raises:
        UserError: the images have no labels, or the measure is no share of something.
    """
    if task.monitor_mode != "max" or source.kind not in task.takes or not source.target_kind.labelled:
        raise UserError(
            f"these labels (of kind {source.kind!r}) give the task {task.name!r} no accuracy; leave them out, and "
            "the outputs are compared with the model's"
        )
    loader = Loader(source, preprocess, LoaderConfig(batch_size=BATCH, workers=0), train=False)

    def measure(engine: Engine) -> float:
        return 100 * evaluate(task, loader, forward=engine, progress=False).metrics[str(task.monitor)]

    return Score(f"{task.monitor} of {len(source):,} images", measure)


def agreement(task: Embedder, images: Sequence[Tensor]) -> Score:
    """With the task itself: how often the first class is the same; without classes to choose among, how far the
    feature vectors point the same way (cosine similarity).

    Args:
        images: preprocessed, each (1, C, H, W).
    """
    classes = task.monitor == "top1"
    batches = [torch.cat(tuple(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]

    @torch.inference_mode()
    def answers(engine: Engine) -> Tensor:
        return torch.cat([(engine if classes else engine.embed)(batch) for batch in batches])

    expected = answers(task)

    @torch.inference_mode()
    def measure(engine: Engine) -> float:
        found = answers(engine)
        same = found.argmax(1) == expected.argmax(1) if classes else F.cosine_similarity(found, expected)
        return 100 * float(same.double().mean())

    return Score(f"{'top1' if classes else 'features'} as before of {len(images):,} images", measure)
