"""Learning from images without labels, one method a file.

A method's module defines ``Config`` and ``Task``, a :class:`Pretraining` with a ``loss`` that needs no targets. Its
outputs are the features of its encoder, and its metrics measure those.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from vitrail.config import from_dict, to_dict
from vitrail.data.batch import Batch
from vitrail.data.transforms.geometry import identities
from vitrail.metrics import Rows, representation
from vitrail.nn.encoder import Encoder
from vitrail.registry import submodules
from vitrail.self_supervision.panels import Panel
from vitrail.self_supervision.views import pooled
from vitrail.trainable import Embedder, Forward, ModelConfig, Trainable, config_class, image_encoder
from vitrail.vit import ViT, ViTConfig

COLLAPSED = 0.02  # spread of features, or share of the largest entropy


class Pretraining(Embedder, Trainable):
    """A model whose targets are in the images themselves. Outputs: features B D."""

    monitor: ClassVar[str | None] = None  # no measure without labels determines which weights are best: the last are
    takes: ClassVar[tuple[str, ...]] = ("none", "class", "multilabel", "number")
    vit: ViT

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """The method's config; labels are ignored."""
        config: ModelConfig = from_dict(config_class(cls), {**options, "model": to_dict(model)})
        return config

    def encoders(self) -> Mapping[str, Encoder]:
        """The only one."""
        return {"vit": self.vit}

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → the class token, or the mean of the patches where there is none, B D."""
        return pooled(image_encoder(self)(images))

    def embed(self, images: Tensor) -> Tensor:
        """The same."""
        return self(images)

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, twice."""
        features = self(images)
        return features, features

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """The features."""
        return self.metrics().reduce((forward or self)(batch["images"]).float(), identities(batch["images"]))

    def metrics(self) -> representation.Metrics:
        """Spread, rank and nearest neighbours of the features."""
        return representation.Metrics()

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """A collapse: all images have the same features, or the teacher predicts the same for all."""
        spread, entropy = means.get("feature_std", 1.0), means.get("teacher_entropy", 0.5)
        what = None
        if spread < COLLAPSED:
            what = f"all images have nearly the same features (feature_std {spread:.2g})"
        elif not COLLAPSED < entropy < 1 - COLLAPSED / 4:
            outputs = "one output" if entropy < 0.5 else "equal outputs"
            what = f"the teacher gives {outputs} for all images (teacher_entropy {entropy:.3g} of its maximum)"
        return what and f"the pretraining seems to collapse: {what}; try a lower optimizer.lr or a smaller model"

    @abstractmethod
    def show(self, batch: Batch) -> list[Panel]:
        """What it makes of some ``images`` (with their ``keys``), in evaluation mode and without gradients."""


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
