"""The contract of a task. One task a file, found by its name through the registry.

A task's module defines three classes: ``Config`` (frozen, JSON), ``Prediction`` (frozen; what a prediction is) and
``Task``. A model without a trained head is registered too: its class is a :class:`Predicting` model, whose predictions
are features, and no :class:`Task`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from vitrail import defaults
from vitrail.config import from_dict, to_dict
from vitrail.data.batch import Batch
from vitrail.data.transforms.geometry import ImageGeometry, identities
from vitrail.defaults import Choice, Facts
from vitrail.errors import UserError
from vitrail.metrics import Rows
from vitrail.nn.encoder import Encoder
from vitrail.ops.grid import Pair
from vitrail.predictions import Prediction
from vitrail.registry import submodules
from vitrail.trainable import Embedder, EncoderModule, Forward, ModelConfig, Trainable, config_class
from vitrail.vit import ViT, ViTConfig

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

P = TypeVar("P", bound=Prediction)
R = TypeVar("R", bound=Prediction, covariant=True)
BALANCED = "balanced"
"""In place of class weights: those with which the classes of the training split count alike."""


class Predicting(Embedder, Generic[P]):
    """Images in, one prediction ``P`` per image out.

    Attributes:
        keeps_form: predictions are pictures (:class:`vitrail.predictions.PicturePrediction`), with the bits, the
            transparency and the colour profile of those that they are made of.
    """

    keeps_form: ClassVar[bool] = False

    @abstractmethod
    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[P]:
        """Raw outputs → one prediction per image.

        Args:
            geometries: where each input lies in its image, whose pixels spatial predictions are in. Outputs are
                enlarged to the image before anything is decided from them.
        """

    def predict(self, images: Tensor) -> list[P]:
        """B C H W → one prediction per image; spatial ones in the pixels of ``images``."""
        return self.decode(self(images), identities(images))


class Task(Predicting[P], Trainable):
    """An encoder and a head that learns from targets.

    Attributes:
        class_rows: names of tensors, with ``*`` for numbers of layers, that have a row for each of :attr:`names`, in
            their order, then perhaps others. A training that starts from weights for other classes takes the rows of
            those that have the same names.
        shaping: options that shape tensors outside the encoders; it takes them from the weights.
        vit: the encoder of tasks with one; a task with several overrides :meth:`encoders`.
    """

    class_rows: tuple[str, ...] = ()
    shaping: ClassVar[tuple[str, ...]] = ()
    quarter_turns: ClassVar[bool] = False
    """Whether views of test-time augmentation are turned by quarters too, and outputs are pictures that turn back."""
    vit: ViT

    def encoders(self) -> Mapping[str, Encoder]:
        """The only one."""
        return {"vit": self.vit}

    @property
    def capacity(self) -> tuple[int, str] | None:
        """How many objects of an image can be found at most, and the option that says so; None: it finds none."""
        return None

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

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """Those of all targets with places, or of all others."""
        return defaults.spatial(facts) if cls.spatial() else defaults.whole_images(facts)

    def as_targets(self, predictions: Sequence[P]) -> Rows:
        """Predictions in the place of annotations, an entry per image, as :meth:`metrics` takes them.

        Raises:
            UserError: the task does not say how.
        """
        raise UserError(
            f"the task {self.name!r} does not say how its predictions are compared with others; give labelled images"
        )

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """One output for each image from those of several views of it (test-time augmentation).

        Args:
            outputs: of each view, all as :meth:`forward` gives them.
            mirrored: whether a view is the mirror image, whose spatial outputs are mirrored too.
            size: (height, width) of the model's input.

        Raises:
            UserError: the task does not say how.
        """
        raise UserError(f"the task {self.name!r} does not say how outputs of several views are averaged; leave out tta")

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """What the metrics keep of the raw outputs; of a picture in tiles, of all of it."""
        if "tiled" in batch:
            task = require_tileable(self)
            return [task.reduce_tiles(each.outputs(forward or self), each.grid) for each in batch["tiled"]]
        padding = (batch["padding"],) if "padding" in batch else ()
        outputs = (forward or self)(batch["images"], *padding)
        return self.metrics().reduce(outputs.float(), batch.get("geometries") or identities(batch["images"]))


@runtime_checkable
class Tileable(Protocol[R]):
    """A task that predicts a picture from the outputs of overlapping tiles. One tile that covers it gives what
    ``decode`` does of the picture."""

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> R:
        """Outputs of every tile in the grid's order, as they are asked for → the prediction of the picture."""

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> object:
        """The same → what :meth:`vitrail.metrics.Metrics.update` takes of the picture."""


def require_tileable(model: EncoderModule) -> Tileable[Prediction]:
    """The model as one that predicts by tiles.

    Raises:
        UserError: its predictions cannot be merged.
    """
    if not isinstance(model, Tileable):
        raise UserError(f"the task {model.name!r} cannot predict tile by tile; leave the tiles out")
    return model


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


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
