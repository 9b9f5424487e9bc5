"""What compression gains and what it costs: speed, size and accuracy of several models on the same images."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitrail.compress import PLAIN
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source
from vitrail.evaluation import Evaluation, evaluate
from vitrail.predictor import Predictor
from vitrail.results import Column, ResultTable
from vitrail.trainable import Embedder, image_encoder


@dataclass(frozen=True)
class Cost:
    """Of one image of the native size."""

    macs: int
    """Multiply–accumulates of all matrix products and convolutions."""
    tokens: int
    """Patch tokens that leave the last block."""
    parameters: int


@dataclass(frozen=True)
class Point:
    """One model of a curve."""

    name: str
    cost: Cost
    images_per_second: float
    """Of the forward pass alone."""
    speedup: float
    """Ratio to the plain model's images per second."""
    evaluation: Evaluation


COLUMNS: tuple[Column[Point], ...] = (
    Column(lambda point: point.name, "model", "name"),
    Column(lambda point: point.cost.macs, key="macs"),
    Column(lambda point: point.cost.tokens, "tokens", "tokens"),
    Column(lambda point: point.cost.parameters, "parameters", "parameters", format="{:,}"),
    Column(lambda point: point.cost.macs / 1e9, "GMACs", format="{:.3g}"),
    Column(lambda point: point.images_per_second, "images/s", "images_per_second", format="{:.1f}"),
    Column(lambda point: point.speedup, "speed", "speedup", format="{:.2f} ×"),
    Column(lambda point: point.evaluation.metrics, key="metrics"),
)


def curve_table(points: Sequence[Point], *more: Column[Point]) -> ResultTable[Point]:
    """The points as text and as JSON.

    Args:
        more: further columns, such as the metric that counts.
    """
    return ResultTable((*COLUMNS, *more), tuple(points))


def measure(models: Mapping[str, Predictor], source: Source, *, batch_size: int = 8, rounds: int = 7) -> list[Point]:
    """Measure each model, one of them called ``plain``, as :func:`vitrail.compress.variants` makes them.

    All see what the plain one's preprocessing makes of the images.

    Args:
        source: labelled images for the accuracy.
        batch_size: images per forward pass.
        rounds: in which the models take turns, so that slow moments of the machine fall on all; the median counts.

    Raises:
        UserError: a task that has nothing to measure, no images, or an unreadable one.
    """
    loader = Loader(source, models[PLAIN].preprocess, LoaderConfig(batch_size=batch_size), train=False)
    evaluations = {name: evaluate(model.task, loader, device=model.device) for name, model in models.items()}
    speeds = _speeds(models, batch_size, rounds)
    return [
        Point(name, cost(model.task), speeds[name], speeds[name] / speeds[PLAIN], evaluations[name])
        for name, model in models.items()
    ]


def cost(task: Embedder) -> Cost:
    """Counted on a copy without memory (meta device)."""
    config = image_encoder(task).config
    without: dict[int, Any] = {id(each): nn.Parameter(each.to("meta"), False) for each in task.parameters()}
    without |= {id(each): each.to("meta") for each in task.buffers()}
    twin = copy.deepcopy(task, without)
    images = torch.empty(1, config.channels, *config.image_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(images)
    with torch.no_grad():
        vit = image_encoder(twin)
        tokens = vit(images).tokens.shape[1] - vit.num_prefix
    return Cost(counter.get_total_flops() // 2, tokens, sum(each.numel() for each in task.parameters()))


@torch.inference_mode()
def _speeds(models: Mapping[str, Predictor], batch_size: int, rounds: int) -> dict[str, float]:
    """Images per second by name."""
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(1 + rounds):  # the first warms up
        for name, model in models.items():
            images = torch.randn(
                batch_size, model.task.inputs.channels, *model.preprocess.config.size, device=model.device
            )
            seconds = _seconds(model.task, images)
            taken[name] += [seconds] if turn else []
    return {name: batch_size / median(each) for name, each in taken.items()}


def _seconds(task: Embedder, images: Tensor) -> float:
    """Of one forward pass."""
    started = time.perf_counter()
    outputs = task(images)
    if outputs.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started
