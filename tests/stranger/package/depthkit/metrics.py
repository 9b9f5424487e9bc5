"""The metrics of monocular depth (Eigen et al. 2014, section 4.2), each the mean over the images.

This module's ``FAMILY`` shows them in reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from depthkit.family import FAMILY
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics import Metrics as Base
from vitrail.metrics import Rows

__all__ = ["FAMILY", "Metrics", "errors"]


class Metrics(Base):
    """From depths (H, W) and true maps (H, W), each of its own size, both in metres; 0 is unknown.

    ``compute()`` gives ``delta1`` (share of the pixels whose depth is off by less than a factor of 1.25), ``abs_rel``
    (mean absolute error, relative to the true depth) and ``rmse`` (in metres).
    """

    headlines = FAMILY.headlines

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._rows: list[tuple[float, float, float]] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """A map float32 (h, w) for each image, in its own pixels."""
        pairs = zip(outputs.float().cpu(), geometries, strict=True)
        return [geometry.original_values(depths)[0] for depths, geometry in pairs]

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images; those without a known depth are left out."""
        for depths, true in zip(cast("Sequence[Tensor]", rows), cast("Sequence[Tensor]", targets), strict=True):
            if true.any():
                self._rows.append(errors(depths, true))

    def compute(self) -> dict[str, float]:
        assert self._rows, "compute() before the first update()"
        means = torch.tensor(self._rows, dtype=torch.float64).mean(dim=0).tolist()
        return dict(zip(("delta1", "abs_rel", "rmse"), means, strict=True))

    def details(self) -> dict[str, Any]:
        return {}


def errors(depths: Tensor, true: Tensor) -> tuple[float, float, float]:
    """δ₁, relative error and root mean squared error of one map (H, W), over its known pixels."""
    known = true > 0
    found, wanted = depths[known].double().cpu(), true[known].double().cpu()
    delta = torch.maximum(found / wanted, wanted / found) < 1.25
    error = (found - wanted).abs()
    return float(delta.double().mean()), float((error / wanted).mean()), float(error.square().mean().sqrt())
