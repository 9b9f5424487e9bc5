"""Image classifiers and feature extractors: one ViT, pooled to one vector, and a head; what most dialects hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.description import Description
from vitrail.data.indexing.names import synonyms_of
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import AttentionPoolConfig, PoolKind
from vitrail.tasks import classification, features, multilabel, regression
from vitrail.vit import ViTConfig

TASKS = ("classification", "features")
PROBLEMS = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
"""What a head's outputs are, by Hugging Face's names, and the task that each is here."""


@dataclass(frozen=True)
class PooledModel:
    """Architecture, labels and preprocessing of a task, in the terms that libraries share.

    Attributes:
        attention_pool: of ``pool`` "attention", what differs from the blocks.
        pool_tokens: of ``pool`` "prefix", which tokens.
        outputs: width of the head; 0: no head.
        labels: whether the outputs are classes or numbers with names; otherwise they are a projection of the features
            (CLIP).
        classes: names in the order of the outputs; empty without labels.
        problem: what the outputs are, of :data:`PROBLEMS`.
        threshold: from which a class of several counts as present.
        scaled: numbers are in another unit than the head's outputs.
        layout: as of a :class:`Description`.
    """

    vit: ViTConfig
    pool: PoolKind
    head: HeadConfig = field(default_factory=HeadConfig)
    outputs: int = 0
    labels: bool = False
    classes: tuple[str, ...] = ()
    preprocess: PreprocessConfig | None = None
    layout: frozenset[str] | None = None
    problem: str = "single_label_classification"
    threshold: float = 0.5
    scaled: bool = False
    attention_pool: AttentionPoolConfig | None = None
    pool_tokens: tuple[int, ...] = ()


def read(description: Description) -> PooledModel:
    """The common terms of a description of one of :data:`TASKS` or :data:`PROBLEMS`."""
    config = description.config
    assert isinstance(config, classification.Config | multilabel.Config | regression.Config | features.Config)
    classes: tuple[str, ...] = ()
    if isinstance(config, classification.Config | multilabel.Config):
        classes = config.classes
    elif isinstance(config, regression.Config):
        classes = config.targets
    kinds = (each for each, task in PROBLEMS.items() if task == description.task)
    return PooledModel(
        vit=config.model,
        pool=config.pool or default_pool(config.model),
        head=config.head,
        outputs=config.projection if isinstance(config, features.Config) else len(classes),
        labels=bool(classes),
        classes=classes,
        preprocess=description.preprocess,
        layout=description.layout,
        problem=next(kinds, "single_label_classification"),
        threshold=config.threshold if isinstance(config, multilabel.Config) else 0.5,
        scaled=isinstance(config, regression.Config) and not _in_units(config),
        attention_pool=config.attention_pool,
        pool_tokens=config.pool_tokens,
    )


def read_encoder(vit: ViTConfig, description: Description) -> PooledModel:
    """The common terms of a model of another task, of which ``vit`` is the encoder; it has no head."""
    return PooledModel(vit, default_pool(vit), preprocess=description.preprocess, layout=description.layout)


def describe(
    vit: ViTConfig,
    *,
    pool: PoolKind,
    head: HeadConfig | None = None,
    outputs: int = 0,
    labels: bool = True,
    classes: tuple[str, ...] = (),
    preprocess: PreprocessConfig | None = None,
    assumed: Iterable[str] = (),
    layout: Iterable[str] = (),
    problem: str = "single_label_classification",
    threshold: float | None = None,
    attention_pool: AttentionPoolConfig | None = None,
) -> Description:
    """The description of a file: of the task of ``problem`` if its outputs have names, else a feature extractor.

    Args:
        outputs, labels: as of a :class:`PooledModel`.
        problem, threshold: as of a :class:`PooledModel`.
        classes: names that the file or its folder gives; as many numbered ones as outputs where they do not fit.
    """
    head = head or HeadConfig()
    assumed = tuple(assumed)
    config: classification.Config | multilabel.Config | regression.Config | features.Config
    task = PROBLEMS[problem] if labels and outputs else TASKS[1]
    if labels and outputs and len(classes) != outputs:
        assumed += (f"classes: {outputs} without names; put their list into classes.json next to the file",)
        classes = tuple(f"class {i}" for i in range(outputs))
    common: dict[str, Any] = {"model": vit, "pool": pool, "head": head, "attention_pool": attention_pool}
    if task == "classification":
        config = classification.Config(classes=classes, synonyms=synonyms_of(classes), **common)
    elif task == "multilabel":
        common |= {} if threshold is None else {"threshold": threshold}
        config = multilabel.Config(classes=classes, synonyms=synonyms_of(classes), **common)
    elif task == "regression":
        mean, std = (0.0,) * outputs, (1.0,) * outputs
        config = regression.Config(targets=classes, mean=mean, std=std, **common)
    else:
        config = features.Config(projection=outputs, **common)
    return Description(task, config, preprocess, assumed, frozenset(layout))


def in_units(
    description: Description, state: Mapping[str, Tensor] | None = None
) -> tuple[Description, dict[str, Tensor]]:
    """A regression whose head gives the numbers themselves, as other libraries' heads do; anything else unchanged.

    Args:
        state: of the task; its head takes mean and deviation in, up to rounding.
    """
    config, state = description.config, dict(state or {})
    if not isinstance(config, regression.Config) or _in_units(config) or not config.head.bias:
        return description, state
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (config.mean, config.std))
    for layer in ("head.output", "head.distillation"):
        if f"{layer}.weight" in state:
            weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
            state[f"{layer}.weight"] = (weight.double() * std[:, None]).to(weight.dtype)
            state[f"{layer}.bias"] = (bias.double() * std + mean).to(bias.dtype)
    count = len(config.targets)
    return replace(description, config=replace(config, mean=(0.0,) * count, std=(1.0,) * count)), state


def _in_units(config: regression.Config) -> bool:
    return not any(config.mean) and all(value == 1 for value in config.std)


def describe_encoder(vit: ViTConfig, preprocess: PreprocessConfig | None) -> Description:
    """An encoder alone, to be written as a feature extractor; its tensors are called ``vit.…``."""
    return Description(TASKS[1], features.Config(model=vit), preprocess)


def default_pool(vit: ViTConfig) -> PoolKind:
    """The class token where there is one, else the mean of the patches."""
    return "cls" if vit.class_token else "mean"
