"""The task: metric depth for each pixel, by a plain ViT and one linear layer for each patch.

Shapes: B images, D width, (h, w) token grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from depthkit.colours import blended
from depthkit.maps import KIND
from depthkit.metrics import FAMILY, Metrics
from vitrail.config import config, from_dict, to_dict
from vitrail.data.batch import Batch, tensor_targets
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.nn.dense_heads import LinearHead
from vitrail.nn.init import initialise
from vitrail.predictions.pictures import blank
from vitrail.tasks import Task as Base
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

__all__ = ["FAMILY", "Config", "Prediction", "Task"]


@config
class Config:
    """Args:
    max_depth: the largest depth in metres that the model can predict.
    variance: weight λ of the scale in the loss; 1: the scale of a map does not count (Eigen et al. 2014, equation 4).
    """

    model: ViTConfig
    max_depth: Annotated[float, Field(gt=0)]
    variance: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, repr=False)
class Prediction:
    """The depth of every pixel."""

    columns: ClassVar[tuple[str, ...]] = ("nearest", "mean", "farthest")
    depths: NDArray[np.float32]
    """(H, W) in metres; 0 outside of the model's input."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.depths.shape[0], self.depths.shape[1]

    def rows(self) -> list[dict[str, Any]]:
        """One row, in metres."""
        return [{name: f"{value:.4g}" for name, value in self._range().items()}]

    def summary(self, top: int) -> dict[str, str]:
        """The range of the depths."""
        return {"depth": "{nearest:.3g} to {farthest:.3g} m, mean {mean:.3g} m".format(**self._range())}

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``size`` (height, width), and the ``nearest``, ``mean`` and ``farthest`` depth in metres."""
        return {"size": list(self.size), **self._range()}

    def label_map(self) -> Image.Image:
        """As :meth:`to_png`; a server sends it."""
        return self.to_png()

    def to_png(self) -> Image.Image:
        """16-bit grey levels, in millimetres."""
        return Image.fromarray((self.depths * 1000).round().clip(0, 65535).astype(np.uint16))

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image in the colours of its depths."""
        return blended(image, self.depths)

    def __repr__(self) -> str:
        return f"<{self.summary(1)['depth']}, {self.size[0]}×{self.size[1]} pixels>"

    def _repr_png_(self) -> bytes:
        return blank(self.draw, self.size)

    def _range(self) -> dict[str, float]:
        known = self.depths[self.depths > 0]
        if not len(known):
            known = np.zeros(1)
        return {"nearest": float(known.min()), "mean": float(known.mean()), "farthest": float(known.max())}


class Task(Base[Prediction]):
    """Targets: depths float32 (B, H, W), 0 where unknown. Outputs: depths (B, 1, H, W) at the size of the images.

    ``batch["padding"]`` bool (B, H, W), where there is one, says which pixels are outside of the image.
    """

    monitor: ClassVar[str] = "delta1"
    takes: ClassVar[tuple[str, ...]] = (KIND.name,)
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.head = LinearHead(config.model.dim, 1)
        initialise(self.head)

    @classmethod
    def configure(cls, model: ViTConfig, names: Sequence[str], targets: Any, options: Mapping[str, object]) -> Config:
        """The largest depth is that of the training split, unless the options give one."""
        farthest = {} if "max_depth" in options else {"max_depth": max(float(each.max()) for each in targets)}
        return from_dict(Config, {**farthest, **options, "model": to_dict(model)})

    @property
    def names(self) -> tuple[str, ...]:
        """The only map."""
        return ("depth",)

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        return self.vit(images).patches.mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → depths B 1 H W in metres."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Depths and feature vectors in one pass."""
        (features,), hidden = self.vit.dense(images, padding)
        logits = self.head([features.map], hidden, (images.shape[-2], images.shape[-1]))
        return self.config.max_depth * logits.float().sigmoid(), features.patches.mean(dim=1)

    def loss(self, batch: Batch) -> Losses:
        """The scale-invariant error of log depths (Eigen et al. 2014) of an image's known pixels, mean over images."""
        true = tensor_targets(batch)
        known = true > 0
        error = torch.where(known, self(batch["images"], batch.get("padding"))[:, 0], 1).log()
        error = error - torch.where(known, true, 1).log()
        count = known.sum(dim=(1, 2)).clamp(min=1)
        squared, mean = (each.sum(dim=(1, 2)) / count for each in (error.square(), error))
        return {"loss": (squared - self.config.variance * mean.square()).mean()}

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The outputs are the depths."""
        return [Prediction(depths.numpy()) for depths in self.metrics().reduce(outputs.detach(), geometries)]

    def class_scores(self, outputs: Tensor) -> Tensor:
        """The mean nearness of the image, B 1: explanations show which patches bring the scene closer."""
        return -outputs.mean(dim=(2, 3))

    def metrics(self) -> Metrics:
        """δ < 1.25, relative error, root mean squared error."""
        return Metrics(self.names)
