"""The contract of a task. One task a file, found by its name through the registry.

A task's module defines three classes: ``Config`` (frozen, JSON), ``Prediction`` (frozen; what a prediction is) and
``Task``. A model without a trained head is registered too: its class is a :class:`Predicting` model, whose predictions
are features, and no :class:`Task`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from vitrail.config import from_dict, to_dict
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.metrics import Rows
from vitrail.nn.encoder import Encoder
from vitrail.ops.grid import Pair
from vitrail.predictions import Prediction
from vitrail.trainable import Embedder, Forward, ModelConfig, Trainable, config_class
from vitrail.vit import ViT, ViTConfig

P = TypeVar("P", bound=Prediction)


class Predicting(Embedder, Generic[P]):
    """Images in, one prediction ``P`` per image out."""

    @abstractmethod
    def decode(self, outputs: Tensor, size: Pair) -> list[P]:
        """Raw outputs → one prediction per image.

        Args:
            size: (height, width) of the model's input, which spatial predictions are in the pixels of.
        """

    def predict(self, images: Tensor) -> list[P]:
        """B C H W → one prediction per image."""
        return self.decode(self(images), (images.shape[-2], images.shape[-1]))


class Task(Predicting[P], Trainable):
    """An encoder and a head that learns from targets.

    Attributes:
        class_rows: names of tensors with a row for each of :attr:`names`, in their order, then perhaps others. A
            training that starts from weights for other classes takes the rows of those that have the same names.
        shaping: options that shape tensors outside the encoders; it takes them from the weights.
        vit: the encoder of tasks with one; a task with several overrides :meth:`encoders`.
    """

    class_rows: ClassVar[tuple[str, ...]] = ()
    shaping: ClassVar[tuple[str, ...]] = ()
    vit: ViT

    def encoders(self) -> Mapping[str, Encoder]:
        """The only one."""
        return {"vit": self.vit}

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the outputs in their order: classes, or the numbers of a regression."""

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """The task's config for a data set; by default its ``classes`` are the data's.

        Args:
            names: class names, or the names of the numbers.
            targets: of the training split, as its source holds them.
            options: fields of ``Config`` that the user set.
        """
        settings = {**options, "model": to_dict(model), "classes": list(names)}
        config: ModelConfig = from_dict(config_class(cls), settings)
        return config

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """What the metrics keep of the raw outputs."""
        padding = (batch["padding"],) if "padding" in batch else ()
        outputs = (forward or self)(batch["images"], *padding)
        return self.metrics().reduce(outputs.float(), batch.get("geometries"))


def require_predicting(model: Embedder) -> Predicting[Prediction]:
    """The model as one that predicts.

    Raises:
        UserError: it was pretrained without labels.
    """
    if not isinstance(model, Predicting):
        raise UserError(
            f"a model of the method {model.name!r} was pretrained without labels and predicts none: fine-tune it with "
            "`vitrail train DATA --init`"
        )
    return model
