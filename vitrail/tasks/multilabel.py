"""Multi-label classification: any number of classes an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import config
from vitrail.data.indexing.names import Classes
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.multilabel import Metrics
from vitrail.ops.grid import Pair
from vitrail.ops.losses import balanced_positive_weights, binary_cross_entropy, logit_mean_sigmoid
from vitrail.pooled import PooledTask, PooledTaskConfig
from vitrail.predictions.pictures import card, draw_caption
from vitrail.predictions.ranking import as_rows, ranked
from vitrail.tasks import BALANCED
from vitrail.tasks import Task as Base
from vitrail.trainable import ModelConfig
from vitrail.vit import ViTConfig


@config
class Config(PooledTaskConfig):
    """Args:
    classes: names in the order of the outputs.
    synonyms: of each class its other names, such as WordNet numbers; () where none are known.
    threshold: probability from which a class counts as present.
    label_smoothing: share s of each target: y·(1 − s) + s/K.
    class_weights: of each class in the loss where it is present; ``balanced``, resolved by the training split, lets the
        images that have a class count as much as those that do not.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)]
    synonyms: tuple[tuple[str, ...], ...] = ()
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _weights_of_all_classes(self) -> Config:
        if self.class_weights is not None and len(self.class_weights) != len(self.classes):
            raise ValueError(f"{len(self.class_weights)} class_weights for {len(self.classes)} classes; give one each")
        if self.synonyms and len(self.synonyms) != len(self.classes):
            raise ValueError(f"{len(self.synonyms)} synonyms for {len(self.classes)} classes; give each its own")
        return self


@dataclass(frozen=True, repr=False)
class Prediction:
    """The classes present in one image, each with its own probability."""

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(K,) float32, each in [0, 1]."""
    threshold: float

    @property
    def labels(self) -> list[tuple[str, float]]:
        """The classes at or over the threshold with their probabilities, most probable first."""
        return [(label, score) for label, score in self.top(len(self.classes)) if score >= self.threshold]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first."""
        return ranked(self.classes, self.probabilities, k)

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``labels`` over the threshold and the ``top`` most probable classes."""
        return {"labels": as_rows(self.labels), "top": as_rows(self.top(top))}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its classes in a band below."""
        return draw_caption(image, self._lines())

    def __repr__(self) -> str:
        return f"<{', '.join(self._lines())} of {len(self.classes)} classes>"

    def _repr_png_(self) -> bytes:
        return card(self._lines())

    def _lines(self) -> list[str]:
        return [f"{label}  {score:.1%}" for label, score in self.labels[:5]] or ["(none)"]


class Task(PooledTask, Base[Prediction]):
    """Targets: multi-hot or probabilities float32 (B, K). Outputs: logits B K."""

    monitor: ClassVar[str] = "map"
    takes: ClassVar[tuple[str, ...]] = ("multilabel",)
    config: Config

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """Balanced class weights are the training split's."""
        if options.get("class_weights") == BALANCED:
            weights = balanced_positive_weights(torch.from_numpy(np.asarray(targets, np.float32)))
            options = {**options, "class_weights": weights.tolist()}
        return super().configure(model, names, targets, options)

    @property
    def names(self) -> Classes:
        """The classes."""
        return Classes(self.config.classes, self.config.synonyms)

    @property
    def num_outputs(self) -> int:
        """K classes."""
        return len(self.config.classes)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy."""
        config = self.config
        weights = None if config.class_weights is None else outputs.new_tensor(config.class_weights).float()
        return binary_cross_entropy(outputs, targets, config.label_smoothing, positive_weights=weights)

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """One sigmoid a class."""
        probabilities = outputs.detach().float().sigmoid().cpu().numpy()
        return [Prediction(self.config.classes, row, self.config.threshold) for row in probabilities]

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The mean probabilities, as logits."""
        return logit_mean_sigmoid(outputs)

    def as_targets(self, predictions: Sequence[Prediction]) -> Tensor:
        """The classes over the threshold."""
        found = np.stack([each.probabilities for each in predictions]) >= self.config.threshold
        return torch.from_numpy(found).float()

    def metrics(self) -> Metrics:
        """Mean average precision and F1."""
        return Metrics(self.config.classes)
