"""Engines in lower precision by PyTorch's autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.engines import Engine


class Autocast:
    """An engine under autocast; its results are float32."""

    def __init__(self, engine: Engine, dtype: torch.dtype) -> None:
        self.engine, self.dtype = engine, dtype

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype):
            return self.engine(images, *padding).float()

    def embed(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype):
            return self.engine.embed(images).float()
