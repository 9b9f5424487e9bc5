"""The contract of a task. One task a file, found by its name through the registry.

A task's module defines three classes: ``Config`` (frozen, JSON), ``Prediction`` (frozen, what people get) and ``Task``.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from vitrail.data.batch import Batch
from vitrail.data.targets import SPATIAL
from vitrail.metrics import Rows
from vitrail.nn.encoder import Encoder
from vitrail.ops.patches import Pair
from vitrail.trainable import Forward, Trainable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from vitrail.data.source import SourceConfig
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.vit import ViT, ViTConfig


class Prediction(Protocol):
    """What a task says about one image."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with the prediction on it, for people."""


@runtime_checkable
class SpatialPrediction(Protocol):
    """A prediction of what is where in an image: any number of rows, each with its place or extent."""

    columns: ClassVar[tuple[str, ...]]

    def rows(self) -> list[dict[str, Any]]:
        """What was found, a value a column."""

    def summary(self, top: int) -> dict[str, str]:
        """One line for people, naming ``top`` at most."""

    def to_original(self, geometry: ImageGeometry) -> Any:
        """The same on the image that was preprocessed.

        Args:
            geometry: where the model's input lies in it (``Preprocess.geometry``).
        """


def to_dict(prediction: Any, top: int) -> dict[str, Any]:
    """A prediction as plain JSON types, with its best ``top`` classes where it ranks them."""
    data: dict[str, Any] = prediction.to_dict(top) if hasattr(prediction, "top") else prediction.to_dict()
    return data


P = TypeVar("P", bound=Prediction)


class Task(Trainable, Generic[P]):
    """An encoder and a head: images in, one :class:`Prediction` an image out."""

    config: Any
    vit: ViT
    head: nn.Module

    @property
    def backbone(self) -> ViT:
        """What its features come from, and what later trainings start from."""
        return self.vit

    def encoders(self) -> Mapping[str, Encoder]:
        """The backbone alone."""
        return {"vit": self.vit}

    @classmethod
    def spatial(cls) -> bool:
        """Whether its targets and predictions have places in the image: boxes, masks, a class for each pixel."""
        return any(kind in SPATIAL for kind in cls.takes)

    @classmethod
    def source(cls, config: SourceConfig) -> SourceConfig:
        """The source read for this task: scenes hold targets of several kinds, and ``auto`` is the first it takes."""
        if config.kind != "auto" or not cls.spatial():
            return config
        kind: Any = cls.takes[0]
        return dataclasses.replace(config, kind=kind)

    @classmethod
    def derived_options(cls, preprocess: PreprocessConfig) -> dict[str, Any]:
        """Fields of ``Config`` that follow from the preprocessing, unless the user sets them."""
        return {}

    @classmethod
    @abstractmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: np.ndarray[Any, Any], options: dict[str, Any]
    ) -> Any:
        """The task's config for a data set.

        Args:
            names: class names, or the names of the numbers.
            targets: of the training split.
            options: fields of ``Config`` that the user set.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """B C H W → raw outputs; what an engine replaces."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """B C H W → one feature vector an image, B D."""

    @abstractmethod
    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""

    @abstractmethod
    def decode(self, outputs: Tensor, size: Pair) -> list[P]:
        """Raw outputs → one prediction an image.

        Args:
            size: (height, width) of the model's input, which spatial predictions are in the pixels of.
        """

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Raw outputs → one number for each name, B K, which explanations follow back into the image."""
        return outputs

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """What the metrics keep of the raw outputs."""
        padding = (batch["padding"],) if "padding" in batch else ()
        outputs = (forward or self)(batch["images"], *padding)
        return self.metrics().reduce(outputs.float(), batch.get("geometries"))

    def predict(self, images: Tensor) -> list[P]:
        """B C H W → one prediction an image."""
        return self.decode(self(images), (images.shape[-2], images.shape[-1]))
