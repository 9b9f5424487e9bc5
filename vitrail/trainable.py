"""The contract of everything that learns: tasks, pretraining methods, generators, and a student with its teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.metrics import Metrics, Rows
from vitrail.nn.encoder import Encoder
from vitrail.ops.patches import Pair
from vitrail.vit import ViT

Losses: TypeAlias = dict[str, Tensor]
"""``{"loss": the scalar to minimise, …}`` with any parts that are worth logging."""
Forward: TypeAlias = Callable[..., Tensor]
"""Images (B, C, H, W) and, where there is one, their padding (B, H, W) → raw outputs."""


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


class Trainable(nn.Module, ABC):
    """A module with a loss, metrics and named encoders.

    Attributes:
        monitor: the metric that selects the best weights, and whether larger (``max``) or smaller (``min``) is better.
            None: no metric does, so the last weights are released.
        takes: names of the target kinds that it learns from (``vitrail.data.targets``).
        num_views: how many views of an image it needs at least; 0: it learns from one image, ``images``.
    """

    monitor: ClassVar[str | None]
    monitor_mode: ClassVar[Literal["max", "min"]] = "max"
    takes: ClassVar[tuple[str, ...]]
    num_views: ClassVar[int] = 0

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

    @property
    def inputs(self) -> InputSpec:
        """What the first encoder takes."""
        vit = image_encoder(self)
        return InputSpec("image", vit.config.channels, vit.config.image_size, vit.require_size)

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch, with its parts."""

    @abstractmethod
    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """What :meth:`metrics` takes of a batch, a row an image. Draws are keyed by ``batch["keys"]``.

        Args:
            forward: runs in place of the module's own, such as a compiled or exported model.
        """

    @abstractmethod
    def metrics(self) -> Metrics:
        """A fresh metric family."""

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """A warning about an epoch that had these mean losses, such as a collapse; None: all is well."""

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after each optimizer step; EMA teachers live here."""

    def released(self) -> Trainable:
        """What is evaluated during training and written to weights files: the module itself, or what it wraps."""
        return self


def image_encoder(trainable: Trainable) -> ViT:
    """The first encoder, which features are read from.

    Raises:
        UserError: it is no image encoder.
    """
    encoder = next(iter(trainable.encoders().values()))
    if not isinstance(encoder, ViT):
        raise UserError(f"{trainable.name!r} has no image encoder; choose a model that has one")
    return encoder
