"""Measures of a model's outputs, one family a file.

A family sees every output and target before it computes, in double precision, so that its numbers never
depend on how the images were batched. What is undefined, such as the R² of a constant, is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = Tensor | list[Any]
"""What an evaluation gathers of a batch, an entry an image."""


class Metrics(ABC):
    """Collects outputs and targets, then computes.

    Args:
        names: the classes, or the target columns of a regression, in output order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[Any] | None = None) -> Any:
        """What an evaluation gathers of outputs for :meth:`update`, an entry an image: all, unless they are too large.

        Args:
            geometries: where outputs have places, what leads from the inputs' pixels to those of each image.
        """
        return outputs

    def update(self, outputs: Any, targets: Any) -> None:
        """Add one batch: outputs (B, K) and its targets, (B,) class indices or (B, K)."""
        assert outputs.ndim == 2, f"outputs are (B, K), got {tuple(outputs.shape)}"
        assert outputs.shape[1] == len(self.names), f"{outputs.shape[1]} outputs for {len(self.names)} names"
        assert len(outputs) == len(targets), f"{len(outputs)} outputs for {len(targets)} targets"
        self._outputs.append(outputs.detach().cpu().float())
        self._targets.append(targets.detach().cpu())

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scalars, by name."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What tables and plots need: per-class rows, matrices as numpy arrays."""

    def _collected(self) -> tuple[Tensor, Tensor]:
        assert self._outputs, "compute() before the first update()"
        return torch.cat(self._outputs).double(), torch.cat(self._targets)


def rows(names: Sequence[str], **columns: Tensor) -> list[dict[str, Any]]:
    """One dict a class or target, from one (K,) tensor a column."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"name": name} | dict(zip(columns, row, strict=True)) for name, row in zip(names, values, strict=True)]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Elementwise quotient with 0/0 = 0, the convention for precision and recall of a class never met."""
    return numerator.double() / denominator.double().clamp(min=torch.finfo(torch.float64).tiny)


def f1_score(precision: Tensor, recall: Tensor) -> Tensor:
    """The harmonic mean, 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)
