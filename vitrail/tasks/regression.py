"""Regression: one or several numbers an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import config, from_dict, to_dict
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.regression import Metrics
from vitrail.ops.grid import Pair
from vitrail.pooled import PooledTask, PooledTaskConfig
from vitrail.predictions.pictures import card, draw_caption
from vitrail.tasks import Task as Base
from vitrail.vit import ViTConfig


@config
class Config(PooledTaskConfig):
    """Args:
    targets: names of the numbers in the order of the outputs.
    mean: of each number over the training split, in its unit; the network works on (y − mean)/std.
    std: likewise the standard deviation.
    loss: on the standardised numbers.
    """

    targets: Annotated[tuple[str, ...], Field(min_length=1, max_length=65536)]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    loss: Literal["mse", "l1", "smooth_l1"] = "mse"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not len(self.targets) == len(self.mean) == len(self.std):
            raise ValueError(f"{len(self.targets)} targets need as many means and standard deviations")
        return self


@dataclass(frozen=True, repr=False)
class Prediction:
    """The numbers of one image, in the units of the training data."""

    targets: tuple[str, ...]
    values: NDArray[np.float32]
    """(K,) float32."""

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``values`` by name."""
        return {"values": {name: float(v) for name, v in zip(self.targets, self.values, strict=True)}}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its numbers in a band below."""
        return draw_caption(image, self._lines())

    def __repr__(self) -> str:
        return f"<{', '.join(self._lines())}>"

    def _repr_png_(self) -> bytes:
        return card(self._lines())

    def _lines(self) -> list[str]:
        return [f"{name}  {value:.4g}" for name, value in zip(self.targets, self.values, strict=True)]


class Task(PooledTask, Base[Prediction]):
    """Targets: numbers float32 (B, K) in their own units. Outputs: likewise."""

    monitor: ClassVar[str] = "mae"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    share: ClassVar[str | None] = "r2"
    takes: ClassVar[tuple[str, ...]] = ("number",)
    config: Config
    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.tensor(config.mean, device="cpu"), persistent=False)
        self.register_buffer("std", torch.tensor(config.std, device="cpu"), persistent=False)

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> Config:
        """Means and standard deviations are the training split's (a constant number keeps a deviation of 1)."""
        values = np.asarray(targets, dtype=np.float64)
        values = values.reshape(len(values), -1)
        std = values.std(axis=0)
        scale = {"mean": values.mean(axis=0).tolist(), "std": np.where(std > 0, std, 1.0).tolist()}
        return from_dict(Config, {**scale, **options, "model": to_dict(model), "targets": list(names)})

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the numbers."""
        return self.config.targets

    @property
    def num_outputs(self) -> int:
        """K numbers."""
        return len(self.config.targets)

    def rescaled(self, outputs: Tensor) -> Tensor:
        """Standardised numbers → the units of the data."""
        return outputs.float() * self.std + self.mean

    def output_parts(self, outputs: Tensor) -> dict[str, Tensor]:
        """The numbers by name, each of its own unit."""
        return dict(zip(self.names, outputs.unbind(dim=1), strict=True))

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The config's loss on standardised numbers."""
        outputs, targets = ((y - self.mean) / self.std for y in (outputs, targets))
        function = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}[self.config.loss]
        return function(outputs, targets)

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The outputs are the numbers."""
        return [Prediction(self.config.targets, row) for row in outputs.detach().float().cpu().numpy()]

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The mean numbers."""
        return torch.stack(list(outputs)).mean(dim=0)

    def as_targets(self, predictions: Sequence[Prediction]) -> Tensor:
        """The numbers."""
        return torch.from_numpy(np.stack([each.values for each in predictions]))

    def metrics(self) -> Metrics:
        """MAE, RMSE and R²."""
        return Metrics(self.config.targets, self.config.std)
