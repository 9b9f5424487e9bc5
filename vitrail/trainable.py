"""The contracts of models: what has encoders, what makes feature vectors, and what can be trained.

A task is an :class:`Embedder` and a :class:`Trainable`; so is a pretraining method. A model without a trained head
(``tasks/features.py``) is only an embedder, which predicts its features. A student with its teacher, or a generator, is
only trainable.
"""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeAlias

from torch import Tensor, nn

from vitrail import defaults
from vitrail.data import targets
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.metrics import Metrics, Rows
from vitrail.nn.encoder import Encoder
from vitrail.nn.layer import Layer
from vitrail.ops.grid import Pair
from vitrail.vit import ViT

if TYPE_CHECKING:
    from vitrail.data.source import SourceConfig
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.defaults import Choice, Facts
    from vitrail.vit import ViTConfig

Losses: TypeAlias = dict[str, Tensor]
"""``{"loss": the scalar to minimise, …}`` with any parts that are worth logging."""
OUTPUTS, EMBEDDING = "outputs", "embedding"
"""Outputs that every exported graph has: what ``Embedder.forward`` returns, and what ``Embedder.embed`` does."""
Forward: TypeAlias = Callable[..., Tensor]
"""Images (B, C, H, W) and, where there is one, their padding (B, H, W) → raw outputs."""


class ModelConfig(Protocol):
    """A frozen dataclass that rebuilds a model; ``model`` describes its encoder, the other fields the rest."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def model(self) -> ViTConfig: ...


@dataclass(frozen=True)
class InputSpec:
    """What a model takes.

    Attributes:
        media: what the files hold.
        channels: of an image or frame.
        size: native (height, width) in pixels.
        accepts: raises a UserError for a (height, width) that the model cannot take.
    """

    media: Literal["image", "video", "text"]
    channels: int
    size: Pair
    accepts: Callable[[Pair], None]


class EncoderModule(nn.Module, ABC):
    """A module with named encoders.

    Attributes:
        takes: names of the target kinds that it learns from (``vitrail.data.targets``); empty: it cannot be trained.
        monitor: the metric that selects the best weights, and whether larger (``max``) or smaller (``min``) is better.
            None: no metric does, so the last weights are released.
        share: a metric from 0 to 1, such as what int8 may lose points of, where larger values of ``monitor`` are worse.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    monitor: ClassVar[str | None] = None
    monitor_mode: ClassVar[Literal["max", "min"]] = "max"
    share: ClassVar[str | None] = None

    @property
    def name(self) -> str:
        """The registry name: the file's for our entries, the dotted module for a third party's."""
        module = type(self).__module__
        return module.rpartition(".")[2] if module.startswith("vitrail.") else module

    @abstractmethod
    def encoders(self) -> Mapping[str, Encoder]:
        """The encoders by module path, such as ``{"vit": …}``; the first one is what features are read from and what
        later trainings start from. Optimiser groups, freezing, sharding, resizing, distillation and explanations ask
        this and nothing else."""

    def after_resize(self) -> None:
        """Called after the encoders' native sizes have changed: tables outside of them follow the grid."""

    @property
    def inputs(self) -> InputSpec:
        """What the first encoder takes."""
        vit = image_encoder(self)
        return InputSpec("image", vit.config.channels, vit.config.image_size, vit.require_size)

    def one_view(self) -> Self:
        """This module, with the same parameters, where it sees an image once: what explanations look into and what
        formats without test-time augmentation hold."""
        return self

    @classmethod
    def spatial(cls) -> bool:
        """Whether its targets and predictions have places in the image: boxes, masks, a class for each pixel."""
        return any(targets.load(kind).spatial for kind in cls.takes)

    @classmethod
    def source(cls, config: SourceConfig) -> SourceConfig:
        """The source to read: scenes hold targets of several kinds, and ``auto`` is the first that it takes."""
        if config.kind != "auto" or not cls.spatial():
            return config
        return dataclasses.replace(config, kind=cls.takes[0])


class Embedder(EncoderModule):
    """A model that turns images into feature vectors, and into outputs that a :class:`vitrail.tasks.Task` decodes."""

    config: ModelConfig

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs in their order: classes, or the numbers of a regression; () where there are none."""
        return ()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """B C H W → raw outputs; what an engine replaces. Spatial models also take ``padding``, bool (B, H, W)."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """B C H W → one feature vector per image, B D."""

    @abstractmethod
    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` return, in one pass."""

    @property
    def graph_step(self) -> int:
        """Of how many patches the sides of images are a multiple where an exported graph takes any size."""
        return 1

    @property
    def unordered(self) -> bool:
        """Whether the rows of the raw outputs, axis 1, are a set, whose order means nothing."""
        return False

    def output_parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """Raw outputs by what they mean, where one tensor holds several things, such as scores and pixels. Each part is
        compared on a scale of its own where an engine computes it."""
        return {OUTPUTS: outputs}

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Raw outputs → one number for each of :attr:`names`, or for each feature, B K, whose gradient explanations
        compute."""
        return outputs

    def graph_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """B C H W → every output of an exported graph by its name, in the order of the graph.

        A model with more outputs, such as one per level or tower, adds them; ``outputs`` and ``embedding`` stay.
        """
        outputs, embedding = self.forward_with_embedding(images)
        return {OUTPUTS: outputs, EMBEDDING: embedding}


class Trainable(EncoderModule):
    """A module with a loss and metrics.

    Attributes:
        num_views: how many views of an image it needs at least; 0: it learns from one image, ``images``.
        sized: its defaults depend on the size of the images, which are looked at.
        shardable: its parameters may be split among processes (FSDP).
        whole_batch: its loss compares the images of a step with each other, so pieces of the batch are another
            objective. Processes may share the batch: such a loss gathers what it needs (``vitrail.ops.collective``).
    """

    num_views: ClassVar[int] = 0
    sized: ClassVar[bool] = False
    shardable: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = False

    @classmethod
    def derived_options(cls, preprocess: PreprocessConfig) -> dict[str, Any]:
        """Fields of ``Config`` that follow from the preprocessing, unless the user sets them."""
        return {}

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """Settings of a run that suit the data, the model and the start, unless the user sets them."""
        return []

    @classmethod
    def too_few(cls, facts: Facts, data: str) -> str | None:
        """What to tell the user before a training on few images, if anything.

        Args:
            data: as the user named it.
        """
        return defaults.too_few(facts, data)

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch, with its parts: a mean over images, or sums divided by :meth:`divisors`."""

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the loss divides sums by, such as the number of objects: scalars by name, counted in a batch.

        A training adds up those of all pieces and processes of a step beforehand, on the host and without parameters,
        so that together they have the gradient of one batch.
        """
        return {}

    def divisors(self, batch: Batch) -> dict[str, Tensor]:
        """The :meth:`counts` to divide by: as many of the step's as fall to the batch by its number of images, or of a
        batch alone its own, at least 1."""
        if "divisors" in batch:
            return batch["divisors"]
        return {name: count.clamp(min=1) for name, count in self.counts(batch).items()}

    @abstractmethod
    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """What :meth:`metrics` takes of a batch, a row per image. Random numbers depend on ``batch["keys"]`` alone.

        Args:
            forward: runs in place of the module's own, such as a compiled or exported model.
        """

    @abstractmethod
    def metrics(self) -> Metrics:
        """A fresh metric family."""

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """A warning about an epoch that had these mean losses, such as a collapse; None: all is well."""

    def before_step(self, step: int, num_steps: int) -> None:
        """Called between the backward passes and each optimizer step. A parameter whose gradient becomes None here
        stays as it is: no clipping counts it, no decay acts on it, and the optimizer keeps no state of it."""

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after each optimizer step; EMA teachers live here."""

    def released(self) -> Trainable:
        """What is evaluated during training and written to weights files: the module itself, or what it wraps."""
        return self


def image_encoder(model: EncoderModule) -> ViT:
    """The first encoder, which features are read from.

    Raises:
        UserError: it is no image encoder.
    """
    encoder = next(iter(model.encoders().values()))
    if not isinstance(encoder, ViT):
        raise UserError(f"{model.name!r} has no image encoder; choose a model that has one")
    return encoder


def layers_of(model: EncoderModule) -> list[nn.Module]:
    """The blocks of all encoders and the layers of all decoders, each of which is compiled, sharded and checkpointed by
    itself."""
    blocks = {block for encoder in model.encoders().values() for block in encoder.blocks}
    return [module for module in model.modules() if isinstance(module, Layer) or module in blocks]


def require_trainable(model: EncoderModule) -> Trainable:
    """The model as a trainable one.

    Raises:
        UserError: it has neither loss nor metrics.
    """
    if not isinstance(model, Trainable):
        raise UserError(
            f"a model of {model.name!r} has no trained head and cannot be measured: fine-tune it with `vitrail train "
            "DATA --init`"
        )
    return model


def config_class(kind: type[EncoderModule]) -> type[Any]:
    """The ``Config`` of a registered model's class, from the same module."""
    config: type[Any] = sys.modules[kind.__module__].Config
    return config
