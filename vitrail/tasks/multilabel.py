"""Multi-label classification: any number of classes an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor

from vitrail.config import config, from_dict, to_dict
from vitrail.data.batch import Batch, tensor_targets
from vitrail.metrics.multilabel import Metrics
from vitrail.ops.losses import binary_cross_entropy
from vitrail.ops.patches import Pair
from vitrail.tasks._pooled import PooledConfig, PooledTask, draw_caption
from vitrail.vit import ViTConfig


@config
class Config(PooledConfig):
    """Args:
    classes: names in the order of the outputs.
    threshold: probability from which a class counts as present.
    label_smoothing: share s of each target: y·(1 − s) + s/K.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000_000)]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class Prediction:
    """The classes present in one image, each with a probability of its own."""

    classes: tuple[str, ...]
    probabilities: np.ndarray[Any, Any]
    """(K,) float32, each in [0, 1]."""
    threshold: float

    @property
    def labels(self) -> list[tuple[str, float]]:
        """The classes at or over the threshold with their probabilities, most probable first."""
        return [(label, score) for label, score in self.top(len(self.classes)) if score >= self.threshold]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in best]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """``labels`` over the threshold and the ``top`` k."""
        return {
            "labels": [{"label": label, "score": score} for label, score in self.labels],
            "top": [{"label": label, "score": score} for label, score in self.top(k)],
        }

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its classes in a band below."""
        lines = [f"{label}  {score:.1%}" for label, score in self.labels[:5]]
        return draw_caption(image, lines or ["(none)"])


class Task(PooledTask):
    """Targets: multi-hot or probabilities float32 (B, K). Outputs: logits B K."""

    monitor: ClassVar[str] = "map"
    takes = ("multilabel",)
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
        """Mean binary cross-entropy."""
        logits = self(batch["images"])
        return {"loss": binary_cross_entropy(logits, tensor_targets(batch), self.config.label_smoothing)}

    def decode(self, outputs: Tensor, size: Pair) -> list[Prediction]:
        """One sigmoid a class."""
        probabilities = outputs.detach().float().sigmoid().cpu().numpy()
        return [Prediction(self.config.classes, row, self.config.threshold) for row in probabilities]

    def metrics(self) -> Metrics:
        """Mean average precision and F1."""
        return Metrics(self.config.classes)
