"""Metrics of a model's outputs, one family a file.

A family collects every output and target before it computes, in double precision, so that its numbers never
depend on how the images were batched. What is undefined, such as the R² of a constant, is NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from vitrail.registry import submodules

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry

Rows: TypeAlias = Tensor | Sequence[object]
"""What an evaluation collects of outputs or targets: an entry per image."""
ERRORS = {"loss", "ece", "mae", "rmse", "fd", "kid"}
"""The scalars of which smaller values are better."""


class Headline(NamedTuple):
    """How a scalar is written for people: in the terminal, in plots and in reports."""

    label: str
    form: str  # of str.format

    def show(self, value: float | None) -> str:
        """The value as text; a dash if it is undefined."""
        return "–" if value is None or not math.isfinite(value) else self.form.format(value)


class Metrics(ABC):
    """Collects outputs and targets, then computes.

    Args:
        names: the classes, or the target columns of a regression, in output order.

    Attributes:
        chosen: the score from which predictions count where they must be counted, where the user names one.
        scalars: the names that :meth:`compute` gives, of which a training can watch one; empty: only the task's.
        headlines: how those that matter to people are written, in the order of reports.
        decibels: the scalars that are no share of something but decibels.
    """

    scalars: ClassVar[tuple[str, ...]] = ()
    headlines: ClassVar[Mapping[str, Headline]] = {}
    decibels: ClassVar[frozenset[str]] = frozenset()
    chosen: float | None = None

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    @classmethod
    def headline(cls, scalar: str) -> Headline:
        """How a scalar is written; one without a label by its name."""
        return cls.headlines.get(scalar, Headline(scalar.replace("_", " "), "{:.4f}"))

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> Rows:
        """What an evaluation keeps of outputs for :meth:`update`, an entry per image; by default all of them.

        Args:
            geometries: where each input lies in its image, whose pixels spatial results are in.
        """
        return outputs

    @abstractmethod
    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images: what :meth:`reduce` returns, and their targets."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scalars, by name."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What tables and plots need: per-class rows, matrices as numpy arrays."""


def mode_of(scalar: str) -> Literal["max", "min"]:
    """Whether larger or smaller values of a scalar are better."""
    return "min" if scalar in ERRORS else "max"


class VectorMetrics(Metrics):
    """Of one vector per image: outputs (B, K) and targets, (B,) class indices or (B, K)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        assert isinstance(rows, Tensor), f"outputs are (B, K), got a {type(rows).__name__}"
        assert isinstance(targets, Tensor), f"targets are (B,) or (B, K), got a {type(targets).__name__}"
        assert rows.ndim == 2, f"outputs are (B, K), got {tuple(rows.shape)}"
        known = len(self.names) or rows.shape[1]  # features have no names
        assert rows.shape[1] == known, f"{rows.shape[1]} outputs for {known} names"
        assert len(rows) == len(targets), f"{len(rows)} outputs for {len(targets)} targets"
        self._outputs.append(rows.detach().cpu().float())
        self._targets.append(targets.detach().cpu())

    def _collected(self) -> tuple[Tensor, Tensor]:
        assert self._outputs, "compute() before the first update()"
        return torch.cat(self._outputs).double(), torch.cat(self._targets)


def rows(names: Sequence[str], **columns: Tensor) -> list[dict[str, Any]]:
    """One dict per class or target, from one (K,) tensor per column."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"name": name} | dict(zip(columns, row, strict=True)) for name, row in zip(names, values, strict=True)]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Elementwise quotient with 0/0 = 0, the convention for precision and recall of a class that never occurs."""
    return numerator.double() / denominator.double().clamp(min=torch.finfo(torch.float64).tiny)


def f1_score(precision: Tensor, recall: Tensor) -> Tensor:
    """The harmonic mean, 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
