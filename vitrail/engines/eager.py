"""The task as it is, on its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import Engine
from vitrail.tasks import Task

PRECISIONS = ("fp32", *AUTOCAST_DTYPES)


def prepare(task: Task, precision: str) -> Engine:
    """In fp32 the very task, else the task under autocast."""
    eager: Any = task
    return eager if precision == "fp32" else Autocast(eager, AUTOCAST_DTYPES[precision])


class Autocast:
    """An engine under autocast, answering in float32."""

    def __init__(self, engine: Engine, dtype: torch.dtype) -> None:
        self.engine, self.dtype = engine, dtype

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype):
            return self.engine(images, *padding).float()

    def embed(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype):
            return self.engine.embed(images).float()
