"""Probes: how well simple methods learn on the features of a frozen backbone, with all labels or with few.

``methods/`` holds one method a file:

- ``TAKES``: ``vectors``, one an image, or ``tokens``, its patches;
- ``Options``: a config;
- ``measure(sets, options, seed) -> Outcome``: learn from ``sets.train`` and measure each setting on ``sets.val``, which
  chooses, and on ``sets.test``, which is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import torch
from pydantic import Field, PositiveInt

from vitrail import registry
from vitrail.config import config, from_dict, to_dict
from vitrail.console import note, warn
from vitrail.data.source import SourceConfig
from vitrail.data.transforms.augment import Augment, AugmentConfig
from vitrail.data.transforms.scene import ImageTransform
from vitrail.errors import UserError
from vitrail.metrics.representation import feature_std
from vitrail.nn.pooling import build_pool, pooled_dim
from vitrail.predictor import Predictor
from vitrail.probe.features import Computed, Features, Reader, sample, store
from vitrail.probe.result import Result, Score, Trial
from vitrail.probe.sources import Roles, draw, find
from vitrail.trainable import Embedder, image_encoder

Pool = Literal["cls", "mean", "cls_mean"]
# the published linear protocols' augmentation: random crops of 8 to 100 %, half of them mirrored
AUGMENT = AugmentConfig(crop="resized", horizontal_flip=0.5)


@config
class Protocol:
    """What is measured, whatever the method.

    Args:
        layers: blocks whose outputs are measured, each by itself; 0 is the first, -1 the last.
        pool: how tokens become a vector; None: as the model does it, else the class token, else the patches' mean.
        labels: shares of the training labels. One below 1 is drawn ``seeds`` times, at least one label of each class.
        augment: views of each training image, randomly cropped and mirrored; 0: one view, as at inference.
        memory: GiB of patch tokens to keep; where they are more, every epoch computes them again.
    """

    layers: Annotated[tuple[int, ...], Field(min_length=1)] | Literal["all"] = (-1,)
    pool: Pool | None = None
    labels: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (1.0,)
    seeds: PositiveInt = 3
    augment: Annotated[int, Field(ge=0)] = 0
    memory: Annotated[float, Field(ge=0)] = 8.0


@dataclass(frozen=True)
class Sets:
    """The features of one layer: batches B ``width`` or B T ``width`` on ``device``."""

    train: Features
    val: Features
    test: Features
    num_classes: int
    width: int
    device: torch.device


def method_names() -> list[str]:
    """The names of the methods."""
    return registry.names("probe.methods")


def probe(
    predictor: Predictor,
    data: str | SourceConfig,
    method: str = "knn",
    protocol: Protocol | None = None,
    options: Mapping[str, object] | None = None,
    *,
    split: str | None = None,
    batch_size: int = 64,
) -> Result:
    """Measure the predictor's backbone, whatever its task.

    Args:
        data: one class label an image.
        method: one of :func:`method_names`, or a third party's dotted name.
        options: fields of the method's ``Options``.
        split: measured on; default: test where there is one, else val. Where no other split is left to choose settings
            on, a tenth of the training images is held out for that.
        batch_size: images per pass of the backbone.

    Raises:
        UserError: other labels, no images to learn from or to measure on, a layer or pool that the model does not have.
    """
    protocol = protocol or Protocol()
    module = registry.load("probe.methods", method)
    settings = from_dict(module.Options, dict(options or {}))
    layers = _layers(predictor.task, protocol)
    pool = _pool(predictor.task, protocol) if module.TAKES == "vectors" else None
    if pool is None and protocol.pool is not None:
        raise UserError(f"the method {method!r} takes the patch tokens as they are; leave the pool out")
    config = data if isinstance(data, SourceConfig) else SourceConfig(spec=data)
    roles = find(config, split)
    draws = {part: draw(roles.train, part, protocol.seeds) for part in protocol.labels}
    needed = np.unique(np.concatenate([rows for each in draws.values() for rows in each]))
    read = _read(predictor, replace(roles, train=roles.train.subset(needed)), layers, pool, protocol, batch_size)
    scores = []
    for layer, sets in zip(layers, read, strict=True):
        spread = _spread(sets.test, layer)
        for part, each in draws.items():
            few = (replace(sets, train=sets.train.subset(np.searchsorted(needed, rows))) for rows in each)
            trials = tuple(Trial(i, len(some.train), module.measure(some, settings, i)) for i, some in enumerate(few))
            for text in dict.fromkeys(text for trial in trials for text in trial.outcome.notes):
                warn(f"layer {layer}, {100 * part:g} % of the labels: {text}")
            scores.append(Score(layer, part, trials, len(roles.test), spread))
    return Result(
        method=method,
        data=config.spec,
        split=roles.split,
        pool=pool or "patches",
        images=roles.counts,
        options=to_dict(settings),
        protocol=to_dict(protocol),
        scores=tuple(scores),
    )


def _layers(task: Embedder, protocol: Protocol) -> list[int]:
    """Counted from 0, each once, in the order asked for."""
    depth = image_encoder(task).depth
    asked = range(depth) if protocol.layers == "all" else protocol.layers
    if bad := [layer for layer in asked if not -depth <= layer < depth]:
        raise UserError(f"there is no layer {bad[0]}; this model has layers 0 to {depth - 1}")
    return list(dict.fromkeys(layer % depth for layer in asked))


def _pool(task: Embedder, protocol: Protocol) -> Pool:
    has_class_token = image_encoder(task).config.class_token
    own: Any = vars(task.config).get("pool")
    pool: Pool = protocol.pool or (own if own in get_args(Pool) else "cls" if has_class_token else "mean")
    if pool != "mean" and not has_class_token:
        raise UserError(f"the pool {pool!r} needs a class token, which this model does not have; choose mean")
    return pool


def _read(
    predictor: Predictor, roles: Roles, layers: list[int], pool: Pool | None, protocol: Protocol, batch_size: int
) -> list[Sets]:
    """The features of each layer, kept in memory where they fit."""
    vit, plain = image_encoder(predictor.task), predictor.preprocess
    reader = Reader(vit, build_pool(pool, vit.config.dim, 1, 1, "gelu", 0.0) if pool else None, predictor.device)
    augmented: ImageTransform = Augment(AUGMENT, plain.config) if protocol.augment else plain
    plan = (
        (roles.train, augmented, max(1, protocol.augment), "train"),
        (roles.val, plain, 1, "val"),
        (roles.test, plain, 1, "test"),
    )
    num_images = len(layers) * sum(len(source) * views for source, _, views, _ in plan)
    columns: list[Sequence[Features]]
    if pool or _fits(reader, plain.config.size, num_images, protocol.memory):
        columns = [store(reader, *each[:3], layers, batch_size, f"features of {each[3]}") for each in plan]
    else:
        columns = [[Computed.of(reader, *each[:2], layer) for layer in layers] for each in plan]
    width = pooled_dim(pool, vit.config.dim) if pool else vit.config.dim
    num_classes = len(roles.test.classes)
    rows = zip(*columns, strict=True)
    return [Sets(train, val, test, num_classes, width, predictor.device) for train, val, test in rows]


def _fits(reader: Reader, size: tuple[int, int], num_images: int, memory: float) -> bool:
    """Whether the patch tokens of so many images fit into the memory (GiB) for them; prints how much they take."""
    need = num_images * reader.num_bytes(size) / 2**30
    then = "kept" if need <= memory else f"over memory={memory:g}, so every pass computes them again"
    note(f"patch tokens: {need:.3g} GiB as {str(reader.dtype).removeprefix('torch.')}, {then}")
    return need <= memory


def _spread(features: Features, layer: int) -> float:
    """How the features spread.

    Raises:
        UserError: features that are not finite. Those that are all the same get a warning.
    """
    vectors = sample(features)
    if not bool(vectors.isfinite().all()):
        raise UserError(f"the features of layer {layer} are not finite; the weights are damaged or have diverged")
    if float((vectors - vectors[0]).abs().max()) <= 1e-5 * float(vectors.abs().max()):
        warn(
            f"the features of layer {layer} have collapsed: they are the same for all images, so accuracies are chance"
        )
    return float(feature_std(vectors.double()))


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
