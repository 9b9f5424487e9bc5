"""Image classification: one class an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor

from vitrail.config import config, from_dict, to_dict
from vitrail.data.batch import Batch, tensor_targets
from vitrail.metrics.classification import Metrics
from vitrail.ops.losses import binary_cross_entropy, cross_entropy
from vitrail.ops.patches import Pair
from vitrail.tasks._pooled import PooledConfig, PooledTask, draw_caption
from vitrail.vit import ViTConfig


@config
class Config(PooledConfig):
    """Args:
    classes: names in the order of the outputs.
    loss: softmax cross-entropy (``ce``) or one sigmoid a class (``bce``, DeiT III).
    label_smoothing: share of each target spread over all classes.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)]
    loss: Literal["ce", "bce"] = "ce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one image."""

    classes: tuple[str, ...]
    probabilities: np.ndarray[Any, Any]
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
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in best]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """``label``, ``score`` and the ``top`` k."""
        top = [{"label": label, "score": score} for label, score in self.top(k)]
        return {"label": self.label, "score": self.score, "top": top}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its three best classes in a band below."""
        return draw_caption(image, [f"{label}  {score:.1%}" for label, score in self.top(3)])


class Task(PooledTask):
    """Targets: class indices int64 (B,), or probabilities (B, K) where mixup made them. Outputs: logits B K."""

    monitor: ClassVar[str] = "top1"
    takes = ("class",)
    config: Config

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: np.ndarray[Any, Any], options: dict[str, Any]
    ) -> Config:
        """Classes are the data's."""
        return from_dict(Config, {**options, "model": to_dict(model), "classes": list(names)})

    @property
    def num_outputs(self) -> int:
        """K classes."""
        return len(self.config.classes)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy or binary cross-entropy of the config."""
        loss = cross_entropy if self.config.loss == "ce" else binary_cross_entropy
        return {"loss": loss(self(batch["images"]), tensor_targets(batch), self.config.label_smoothing)}

    def decode(self, outputs: Tensor, size: Pair) -> list[Prediction]:
        """Softmax, whatever the loss: sigmoids would rank the classes alike."""
        probabilities = outputs.detach().float().softmax(dim=1).cpu().numpy()
        return [Prediction(self.config.classes, row) for row in probabilities]

    def metrics(self) -> Metrics:
        """Accuracy, F1, calibration and confusion."""
        return Metrics(self.config.classes)
