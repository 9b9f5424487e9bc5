"""Image classification: one class an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import config
from vitrail.data.indexing.names import Classes
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.classification import Metrics
from vitrail.ops.grid import Pair
from vitrail.ops.losses import balanced_weights, binary_cross_entropy, cross_entropy, log_mean_softmax
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
    loss: softmax cross-entropy (``ce``) or one sigmoid a class (``bce``, DeiT III).
    label_smoothing: share of each target spread over all classes.
    class_weights: of each class in the loss; ``balanced``, resolved by the training split, lets all count alike.
    target_threshold: with ``bce``, every class of which mixup or CutMix left more than this share is a full target, as
        in DeiT III; null: shares are the targets.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)]
    synonyms: tuple[tuple[str, ...], ...] = ()
    loss: Literal["ce", "bce"] = "ce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    target_threshold: Annotated[float, Field(ge=0, lt=1)] | None = 0.0

    @model_validator(mode="after")
    def _weights_of_all_classes(self) -> Config:
        if self.class_weights is not None and len(self.class_weights) != len(self.classes):
            raise ValueError(f"{len(self.class_weights)} class_weights for {len(self.classes)} classes; give one each")
        if self.synonyms and len(self.synonyms) != len(self.classes):
            raise ValueError(f"{len(self.synonyms)} synonyms for {len(self.classes)} classes; give each its own")
        return self


@dataclass(frozen=True, repr=False)
class Prediction:
    """Class probabilities of one image."""

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(K,) float32, sums to 1."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def score(self) -> float:
        """Its probability."""
        return float(self.probabilities.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first."""
        return ranked(self.classes, self.probabilities, k)

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``label``, ``score`` and the ``top`` most probable classes."""
        return {"label": self.label, "score": self.score, "top": as_rows(self.top(top))}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its three best classes in a band below."""
        return draw_caption(image, self._lines())

    def __repr__(self) -> str:
        return f"<{self.label} {self.score:.1%} of {len(self.classes)} classes>"

    def _repr_png_(self) -> bytes:
        return card(self._lines())

    def _lines(self) -> list[str]:
        return [f"{label}  {score:.1%}" for label, score in self.top(3)]


class Task(PooledTask, Base[Prediction]):
    """Targets: class indices int64 (B,), or probabilities (B, K) where mixup made them. Outputs: logits B K."""

    monitor: ClassVar[str] = "top1"
    takes: ClassVar[tuple[str, ...]] = ("class",)
    config: Config

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """Balanced class weights are the training split's."""
        if options.get("class_weights") == BALANCED:
            counts = torch.bincount(torch.from_numpy(np.asarray(targets, np.int64)), minlength=len(names))
            options = {**options, "class_weights": balanced_weights(counts).tolist()}
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
        """Cross-entropy or binary cross-entropy of the config."""
        config = self.config
        weights = None if config.class_weights is None else outputs.new_tensor(config.class_weights)
        if config.loss == "ce":
            return cross_entropy(outputs, targets, config.label_smoothing, weights)
        options = config.label_smoothing, config.target_threshold
        return binary_cross_entropy(outputs, targets, *options, class_weights=weights)

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """Softmax, whatever the loss: sigmoids would rank the classes alike."""
        probabilities = outputs.detach().float().softmax(dim=1).cpu().numpy()
        return [Prediction(self.config.classes, row) for row in probabilities]

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The mean probabilities, as logits."""
        return log_mean_softmax(outputs)

    def as_targets(self, predictions: Sequence[Prediction]) -> Tensor:
        """The most probable class."""
        return torch.tensor([int(each.probabilities.argmax()) for each in predictions])

    def metrics(self) -> Metrics:
        """Accuracy, F1, calibration and confusion."""
        return Metrics(self.config.classes)
