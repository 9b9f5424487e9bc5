"""An exponential moving average of the weights, which is evaluated and released (Polyak & Juditsky 1992)."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vitrail.config import config
from vitrail.trainable import Trainable

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


@config
class EmaConfig:
    """The average keeps ``decay`` of itself per step; less in the beginning, to forget the initial weights."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9999
    warmup: bool = True  # decay at step n is at most (1 + n) / (10 + n)


class Ema(AveragedModel):
    """``module`` is the averaged copy; ``update_parameters(model)`` after each step. Buffers are copied."""

    module: Trainable

    def __init__(self, model: Trainable, config: EmaConfig) -> None:
        super().__init__(model, multi_avg_fn=self._average)
        self.config = config
        self.module.requires_grad_(False)

    def decay(self) -> float:
        """The share of the old average that the next update keeps."""
        count = int(self.n_averaged)  # lives on the CPU
        return min(self.config.decay, (1 + count) / (10 + count)) if self.config.warmup else self.config.decay

    @torch.no_grad()
    def _average(self, averages: Tensors, current: Tensors, _: Tensor | int) -> None:
        torch._foreach_lerp_(averages, current, 1 - self.decay())
