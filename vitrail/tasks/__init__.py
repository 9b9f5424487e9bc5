"""The contract of a task. One task a file, found by its name through the registry.

A task's module defines three classes: ``Config`` (frozen, JSON), ``Prediction`` (frozen, what people get) and ``Task``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from vitrail.data.targets import SCENES

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from vitrail.data.source import SourceConfig
    from vitrail.data.transforms.frame import Frame
    from vitrail.vit import ViT, ViTConfig

Batch = dict[str, Any]
"""``images`` float32 (B C H W) or ``view0``, ``view1`` …, ``targets`` (see the task: a tensor, or a list of objects, an
image each, which stays on the host), ``index`` int64 (B,), and on the host ``keys`` int64 (B,), from which a loss draws
its random numbers. Where images have borders, ``padding`` bool (B H W) is true there."""


class Prediction(Protocol):
    """What a task says about one image."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with the prediction on it, for people."""


@runtime_checkable
class Findings(Protocol):
    """A prediction of what is where in an image: any number of rows, each with its place or extent."""

    columns: ClassVar[tuple[str, ...]]

    def rows(self) -> list[dict[str, Any]]:
        """What was found, a value a column."""

    def summary(self, top: int) -> dict[str, str]:
        """One line for people, naming ``top`` at most."""

    def placed(self, frame: Frame) -> Any:
        """The same on the image that was preprocessed.

        Args:
            frame: where the model's input lies in it (``Preprocess.frame``).
        """


def to_dict(prediction: Any, top: int) -> dict[str, Any]:
    """A prediction as plain JSON types, with its best ``top`` classes where it ranks them."""
    data: dict[str, Any] = prediction.to_dict(top) if hasattr(prediction, "top") else prediction.to_dict()
    return data


class Task(nn.Module, ABC):
    """A backbone, a head, a loss, and the one definition of the output.

    Attributes:
        monitor: the metric that tells the best weights, and whether more (``max``) or less (``min``) is better.
            None: nothing tells, so the last weights are released.
        takes: the kinds of targets it learns from (``Source.kind``).
        repeats: settings of the preprocessing that its ``Config`` repeats, so that it can undo them.
        num_views: how many views of an image it needs at least; 0: it learns from one image, ``images``.
    """

    monitor: ClassVar[str | None]
    monitor_mode: ClassVar[Literal["max", "min"]] = "max"
    takes: ClassVar[tuple[str, ...]]
    repeats: ClassVar[tuple[str, ...]] = ()
    num_views: ClassVar[int] = 0
    config: Any
    vit: ViT
    head: nn.Module

    @property
    def name(self) -> str:
        """The registry name: the file's for our tasks, the dotted module for a third party's."""
        module = type(self).__module__
        return module.removeprefix("vitrail.tasks.")

    @property
    def backbone(self) -> ViT:
        """What its features come from, and what later trainings start from."""
        return self.vit

    @classmethod
    def finds_places(cls) -> bool:
        """Its targets and answers have places in the image: boxes, masks, a class for each pixel."""
        return any(kind in SCENES for kind in cls.takes)

    @classmethod
    def source(cls, config: SourceConfig) -> SourceConfig:
        """The source read for this task: scenes hold targets of several kinds, and ``auto`` is the first it takes."""
        if config.kind != "auto" or not cls.finds_places():
            return config
        kind: Any = cls.takes[0]
        return dataclasses.replace(config, kind=kind)

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
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``{"loss": scalar, …}`` with any parts worth logging."""

    @abstractmethod
    def decode(self, outputs: Tensor) -> list[Any]:
        """Raw outputs → one :class:`Prediction` an image."""

    @abstractmethod
    def metrics(self) -> Any:
        """A fresh metric family of ``vitrail.metrics`` with ``update(outputs, targets)``."""

    def evidence(self, outputs: Tensor) -> Tensor:
        """Raw outputs → one number for each name, B K, which explanations follow back into the image."""
        return outputs

    def predict(self, images: Tensor) -> list[Any]:
        """B C H W → one :class:`Prediction` an image."""
        return self.decode(self(images))

    def complaint(self, means: Mapping[str, float]) -> str | None:
        """What people should hear about an epoch that had these mean losses, such as a collapse; said once a run."""

    def after_step(self, step: int, num_steps: int) -> None:
        """Called after each optimizer step; EMA teachers live here."""
