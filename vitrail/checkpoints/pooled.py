"""Image classifiers and feature extractors: one ViT, pooled to one vector, and a head; what most dialects hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import AttentionPoolConfig, PoolKind
from vitrail.tasks import classification, features
from vitrail.vit import ViTConfig

TASKS = ("classification", "features")


@dataclass(frozen=True)
class PooledModel:
    """Architecture, labels and preprocessing of either task, in the terms that libraries share.

    Attributes:
        attention_pool: of ``pool`` "attention", what differs from the blocks.
        pool_tokens: of ``pool`` "prefix", which tokens.
        outputs: width of the head; 0: no head.
        labels: whether the outputs are classes; otherwise they are a projection of the features (CLIP).
        classes: names in the order of the outputs; empty without labels.
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
    attention_pool: AttentionPoolConfig | None = None
    pool_tokens: tuple[int, ...] = ()


def read(description: Description) -> PooledModel:
    """The common terms of a description of one of :data:`TASKS`."""
    config = description.config
    assert isinstance(config, classification.Config | features.Config)
    classes = config.classes if isinstance(config, classification.Config) else ()
    return PooledModel(
        vit=config.model,
        pool=config.pool or default_pool(config.model),
        head=config.head,
        outputs=len(classes) if isinstance(config, classification.Config) else config.projection,
        labels=bool(classes),
        classes=classes,
        preprocess=description.preprocess,
        layout=description.layout,
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
    attention_pool: AttentionPoolConfig | None = None,
) -> Description:
    """The description of a file: a classifier if its outputs are classes, else a feature extractor.

    Args:
        outputs, labels: as of a :class:`PooledModel`.
        classes: names that the file or its folder gives; as many numbered ones as outputs where they do not fit.
    """
    head = head or HeadConfig()
    assumed = tuple(assumed)
    config: classification.Config | features.Config
    if labels and outputs:
        if len(classes) != outputs:
            assumed += (f"classes: {outputs} without names; put their list into classes.json next to the file",)
            classes = tuple(f"class {i}" for i in range(outputs))
        config = classification.Config(model=vit, pool=pool, head=head, classes=classes, attention_pool=attention_pool)
    else:
        config = features.Config(model=vit, pool=pool, head=head, projection=outputs, attention_pool=attention_pool)
    name = TASKS[0] if isinstance(config, classification.Config) else TASKS[1]
    return Description(name, config, preprocess, assumed, frozenset(layout))


def describe_encoder(vit: ViTConfig, preprocess: PreprocessConfig | None) -> Description:
    """An encoder alone, to be written as a feature extractor; its tensors are called ``vit.…``."""
    return Description(TASKS[1], features.Config(model=vit), preprocess)


def default_pool(vit: ViTConfig) -> PoolKind:
    """The class token where there is one, else the mean of the patches."""
    return "cls" if vit.class_token else "mean"
